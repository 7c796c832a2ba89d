/**
 * Partitions of jobs and runs: made ahead, a new one begun about daily, and dropped by retention,
 * but never with an open job. Each test begins a span of its own.
 */
import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { type Maintained, maintainAll } from "../support/maintenance.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, type Rig, refusal, rigOf } from "./rig.ts";

const DAY = 86_400_000;

describeOnEachServer("partitions", (context) => {
  const maintain = (): Promise<Maintained> => maintainAll(context.db.sql);

  /** The number of the partition that holds the facts of a job. */
  async function homeOf(id: string): Promise<number | undefined> {
    const [row] = await context.db.sql<{ home: string }[]>`
      select tableoid::regclass::text as home from queue.jobs where id = ${id}`;
    return row && Number(row.home.replace("queue.jobs_p", ""));
  }

  /** Numbers of the partitions that exist, each seen as a table of jobs and one of runs. */
  async function existing(): Promise<number[]> {
    const rows = await context.db.sql<{ number: string }[]>`
      select substring(relname from '\\d+$') as number from pg_class
      where relnamespace = 'queue'::regnamespace and relispartition and relkind = 'r'
      group by 1 having count(*) = 2 and count(*) filter (where relname like 'runs%') = 1`;
    return rows.map(({ number }) => Number(number)).sort((a, b) => a - b);
  }

  /** Lets a day end, so that a new span begins. */
  async function nextDay(): Promise<void> {
    await rigOf(context.db).enqueue("last-of-the-day");
    await maintain();
    await context.db.advance(DAY + 1000);
    await maintain();
    await rigOf(context.db).clear();
  }

  /** The whole of a job's life: enqueued, claimed and completed. */
  async function complete({ start, complete }: Rig, type: string, result?: unknown) {
    const held = await start(type);
    assert.equal(await complete(held, result), true);
    return held.id;
  }

  /** A job that is claimed and stays so for a year. */
  async function hold({ start, sql }: Rig, type: string, dependsOn: string[] = []) {
    const held = await start(type, { dependsOn });
    await sql`update queue.leases set expires_at = expires_at + interval '1 year' where id = ${held.lease_id}`;
    return held;
  }

  beforeEach(async () => {
    await rigOf(context.db).clear();
    await context.db.sql`delete from queue.dead_letters`;
    await nextDay();
  });

  it("four of them wait beside the one in use", async () => {
    const home = only(await homeOf(await rigOf(context.db).enqueue("first")));

    const did = await maintain();

    assert.equal(did.partitions_made, 0);
    assert.deepEqual(
      (await existing()).filter((number) => number >= home),
      [home, home + 1, home + 2, home + 3, home + 4],
    );
  });

  it("ids follow each other within a day, and jump to the next span after it", async () => {
    const { enqueue } = rigOf(context.db);
    const first = await enqueue("day");
    const home = only(await homeOf(first));
    await maintain();
    await context.db.advance(DAY - 60_000);
    await maintain();
    const sameDay = await enqueue("day");
    await context.db.advance(120_000);
    const did = await maintain();

    const next = await enqueue("day");

    assert.equal(Number(sameDay), Number(first) + 1);
    assert.deepEqual([await homeOf(sameDay), await homeOf(next)], [home, home + 1]);
    assert.equal(did.partitions_made, 1);
    assert.ok((await existing()).includes(home + 5));
  });

  it("the runs of a job stand in the partition of its id, whenever they end", async () => {
    const rig = rigOf(context.db);
    const held = await hold(rig, "long");
    await maintain();
    await context.db.advance(DAY * 2);
    await maintain();
    await rig.complete(held);

    const [run] = await rig.sql<{ home: string }[]>`
      select tableoid::regclass::text as home from queue.runs where job_id = ${held.id}`;

    assert.equal(run?.home, `queue.runs_p${await homeOf(held.id)}`);
  });

  it("days without a job use up no span", async () => {
    const { enqueue } = rigOf(context.db);
    const home = only(await homeOf(await enqueue("before")));
    await maintain();
    for (const _ of [1, 2, 3]) {
      await context.db.advance(DAY + 1000);
      await maintain();
    }

    const id = await enqueue("after");

    assert.equal(await homeOf(id), home + 1);
  });

  it("a span that is more than half used is not left: it ends by itself", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const home = only(await homeOf(await enqueue("one")));
    await maintain();
    const [part] = await sql<{ late: string; last: string }[]>`
      select first_id + (end_id - first_id) * 6 / 10 as late, end_id - 2 as last
      from queue.partitions where number = ${home}`;
    const { late, last } = only(part);
    await sql`select setval('queue.job_ids', ${late})`;
    await context.db.advance(DAY * 2);
    await maintain();
    const stayed = await enqueue("one");
    await sql`select setval('queue.job_ids', ${last})`;

    const homes = [await homeOf(await enqueue("one")), await homeOf(await enqueue("one"))];

    assert.equal(Number(stayed), Number(late) + 1);
    assert.deepEqual(homes, [home, home + 1]);
  });

  it("a call of many jobs that crosses the border of two spans is as good as any", async () => {
    const { sql, enqueue, claim, complete: end } = rigOf(context.db);
    const home = only(await homeOf(await enqueue("before")));
    await sql`
      select setval('queue.job_ids', end_id - 3) from queue.partitions where number = ${home}`;
    await sql`
      select from public.enqueue_jobs(
        '[{"type": "x", "ref": "a"}, {"type": "x"}, {"type": "x"}, {"type": "x", "depends_on_refs": ["a"]}]')`;

    const held = await claim("x", { batch: 10 });
    for (const job of held) assert.equal(await end(job), true);
    const [freed] = await claim("x");

    const homes = await Promise.all([...held, only(freed)].map(({ id }) => homeOf(id)));
    assert.deepEqual(homes, [home, home, home + 1, home + 1]);
  });

  it("new ones are as the others: secured, commented, with the same keys and checks", async () => {
    const numbers = await existing();

    const rows = await context.db.sql<{ parent: string; shapes: number }[]>`
      select substring(c.relname from '^[a-z]+') as parent, count(distinct json_build_array(
        c.relrowsecurity, c.relforcerowsecurity, obj_description(c.oid, 'pg_class'),
        (select json_agg(json_build_array(p.polname, p.polcmd, p.polroles)) from pg_policy as p where p.polrelid = c.oid),
        (select json_agg(pg_get_constraintdef(k.oid) order by pg_get_constraintdef(k.oid)) from pg_constraint as k where k.conrelid = c.oid),
        (select json_agg(i.indkey::text order by i.indkey::text) from pg_index as i where i.indrelid = c.oid)
      )::text)::integer as shapes
      from pg_class as c
      where c.relnamespace = 'queue'::regnamespace and c.relispartition and c.relkind = 'r'
      group by 1 order by 1`;

    assert.ok(Math.max(...numbers) > 5, "some were made after the migrations");
    assert.deepEqual(
      rows.map(({ parent, shapes }) => [parent, shapes]),
      [
        ["jobs", 1],
        ["runs", 1],
      ],
    );
  });

  it("one goes when its last job ended longer ago than the retention, and not before", async () => {
    const rig = rigOf(context.db);
    const held = await hold(rig, "kept");
    const home = only(await homeOf(held.id));
    await maintain();
    await context.db.advance(3 * DAY);
    await maintain();
    await rig.enqueue("of-another-day");
    await rig.complete(held);
    await context.db.advance(7 * DAY - 60_000);
    await maintain();
    const early = await homeOf(held.id);
    await context.db.advance(120_000);

    const did = await maintain();

    assert.equal(early, home);
    assert.ok(did.partitions_dropped >= 1);
    assert.equal(await homeOf(held.id), undefined);
    assert.ok(!(await existing()).includes(home));
  });

  it("with it go its keys, progress and places in quotas; nobody knows its jobs", async () => {
    const rig = rigOf(context.db);
    const held = await rig.start("forgotten", { key: "k" });
    await rig.sql`insert into queue.user_jobs (tenant_id, job_id) values (1, ${held.id})`;
    await rig.sql`select public.report_progress(${held.id}, 50)`;
    await rig.complete(held);
    await nextDay();
    await rig.enqueue("of-another-day");
    await context.db.advance(8 * DAY);
    await maintain();

    const again = await rig.enqueue("forgotten", { key: "k" });

    assert.notEqual(again, held.id);
    const [left] = await rig.sql`
      select (select count(*) from queue.progress where job_id = ${held.id})::integer as progress,
        (select count(*) from queue.user_jobs where job_id = ${held.id})::integer as places,
        (select count(*) from public.job_status_history where job_id = ${held.id})::integer as steps,
        public.explain_job(${held.id}) #>> '{reasons,0,code}' as why,
        public.retry_job(${held.id}) as retried, public.cancel_job(${held.id}) as cancelled,
        queue.job_outcome(${held.id}) as outcome`;
    assert.deepEqual(
      { ...left },
      {
        progress: 0,
        places: 0,
        steps: 0,
        why: "unknown",
        retried: null,
        cancelled: null,
        outcome: null,
      },
    );
    const { code } = await refusal(rig.enqueue("child", { dependsOn: [held.id] }));
    assert.equal(code, "MR007");
  });

  const OPEN: readonly { status: string; make: (rig: Rig) => Promise<string> }[] = [
    { status: "pending", make: ({ enqueue }) => enqueue("open") },
    {
      status: "scheduled",
      make: async ({ enqueue, inMs }) => enqueue("open", { scheduledAt: await inMs(60 * DAY) }),
    },
    {
      status: "blocked",
      make: async (rig) => rig.enqueue("open", { dependsOn: [(await hold(rig, "parent")).id] }),
    },
    { status: "processing", make: async (rig) => (await hold(rig, "open")).id },
  ];
  for (const { status, make } of OPEN) {
    it(`one is never dropped while a job of it is ${status}`, async () => {
      const rig = rigOf(context.db);
      await complete(rig, "ended");
      const id = await make(rig);
      const home = only(await homeOf(id));
      await maintain();
      await context.db.advance(DAY + 1000);
      await maintain();
      await rig.enqueue("of-another-day");
      await context.db.advance(15 * DAY);

      await maintain();

      assert.equal(await rig.status(id), status);
      assert.ok((await existing()).includes(home));
    });
  }

  it("one stays while a job waits that may need a result of it, and goes later", async () => {
    const rig = rigOf(context.db);
    const parent = await complete(rig, "parent", { needed: true });
    await nextDay();
    const other = await hold(rig, "other");
    const child = await rig.enqueue("child", { dependsOn: [parent, other.id] });
    await context.db.advance(9 * DAY);
    await maintain();
    await rig.complete(other);
    const [result] = await rig.sql`
      select result from queue.parent_results(${child}) where id = ${parent}`;
    await rig.complete(await rig.take("child"));
    await context.db.advance(61_000);

    await maintain();

    assert.deepEqual(result?.["result"], { needed: true });
    assert.equal(await homeOf(parent), undefined);
  });

  it("dead letters outlive it, and are redriven as new jobs of the same facts", async () => {
    const rig = rigOf(context.db);
    const facts = {
      payload: { to: "ada" },
      tenant: "acme",
      priority: "low",
      queue: "slow",
      maxRetries: 5,
      options: { timeout_ms: 9 },
    };
    const dead = await rig.bury("dead", facts, "card declined");
    await nextDay();
    await rig.enqueue("of-another-day");
    await context.db.advance(8 * DAY);
    await maintain();
    const gone = await homeOf(dead);
    const [kept] = await rig.sql`select * from public.job_dead_letter where id = ${dead}`;
    const [retried] = await rig.sql`select public.retry_job(${dead}) as status`;

    const [redriven] = await rig.sql`
      select new_id from public.redrive_jobs(array[${dead}]::bigint[], p_reason => 'mended')`;
    const again = await rig.sql`select from public.redrive_jobs(array[${dead}]::bigint[])`;

    assert.deepEqual(
      [gone, kept?.["payload"], kept?.["last_error"], kept?.["errors"].length],
      [undefined, { to: "ada" }, "card declined", 1],
    );
    assert.equal(retried?.["status"], null, "its facts are gone: only a redrive brings it back");
    const job = await rig.row(redriven?.["new_id"]);
    assert.notEqual(job.id, dead);
    assert.deepEqual([job.type, job.status], ["dead", "pending"]);
    assert.deepEqual(
      {
        payload: job.payload,
        tenant: job.tenant_id,
        priority: job.priority,
        queue: job.queue,
        maxRetries: job.max_retries,
        options: job.options,
      },
      facts,
    );
    assert.equal(again.length, 0);
  });

  it("dead letters go after a retention of their own", async () => {
    const rig = rigOf(context.db);
    await rig.bury("old");
    await context.db.advance(60 * DAY);
    await rig.bury("young");
    await context.db.advance(31 * DAY);

    await maintain();

    const left = await rig.sql`select type from public.job_dead_letter`;
    assert.deepEqual(
      left.map(({ type }) => type),
      ["young"],
    );
  });

  it("maintenance leaves what somebody holds to its next call, and does the rest", async () => {
    const rig = rigOf(context.db);
    const dead = await rig.bury("old");
    await rig.enqueue("ring");
    await rig.sql`
      insert into queue.bells (queue_id, worker_id)
      select line.id, worker.id from queue.queues as line, queue.workers as worker
      where line.name = 'ring' and worker.name = 'w'`;
    const lost = await rig.start("lost", {}, { seconds: 1 });
    await context.db.advance(91 * DAY);
    const holder = context.db.connect({ max: 1 });
    await holder`begin`;
    await holder`select public.enqueue_job('ring')`; // it rang, and has not committed
    await holder`select from queue.dead_letters where job_id = ${dead} for update`;

    await rig.sql.begin(async (tx) => {
      await tx`set local lock_timeout = '2s'`;
      await tx`select queue.maintain()`;
    });

    const status = await rig.status(lost.id);
    await holder`rollback`;
    await maintain();
    const [left] = await rig.sql`
      select (select count(*) from queue.bells)::integer as bells,
        (select count(*) from queue.dead_letters)::integer as dead`;
    assert.equal(status, "pending");
    assert.deepEqual({ ...left }, { bells: 0, dead: 0 });
  });
});
