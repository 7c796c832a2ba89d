/**
 * The plans of the claim and of the settlement. What they touch does not grow with the backlog, with
 * future jobs, nor with a snapshot that somebody holds, and no big table is ever read from end to
 * end, also where statistics say that it is empty.
 */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { type ClaimedColumns, type ClaimedRow, toRows } from "../../src/db/claimed-jobs.ts";
import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { describeOnEachServer, describeWithDatabase } from "../support/suite.ts";
import { openPlanRecorder, type PlanRecorder, type Recording } from "./plan-recorder.ts";
import { rigOf } from "./rig.ts";

const MILLION = 1_000_000;

/** What grows with the work; the small tables of names may be read whole. */
const BIG =
  /^(Seq|Sample) Scan on (ready|scheduled|waiting|dependencies|leases|jobs|runs|dead_letters)(_p\d+)?$/;

function fullScans({ scans }: Recording): string[] {
  return scans.filter((scan) => BIG.test(scan));
}

/** A million pending jobs of low priority in a thousand lanes, a million in the future, leases and runs. */
async function fill(db: TestDatabase): Promise<void> {
  const sql = db.connect({ max: 1 });
  await sql`select public.enqueue_job('mail', p_tenant_id => 'tenant 7'), public.enqueue_job('rare')`;
  await sql`truncate queue.jobs, queue.ready`;
  const now = await db.now();
  // A hurry for tests alone; plans are the same.
  await sql.unsafe(`
    set maintenance_work_mem = '256MB';
    alter table queue.jobs_p1 set unlogged;
    alter table queue.ready set unlogged;
    alter table queue.scheduled set unlogged;
  `);
  await sql`
    insert into queue.jobs (id, created_at, type_id, queue_id, tenant_id, born, max_retries, priority, payload)
    select n, ${now}, 1, 1, 1 + n / 1000, 'pending', 3, 3, '{}' from generate_series(1, ${MILLION}) as n`;
  await withoutIndexes(
    sql,
    "queue.ready",
    () => sql`
    insert into queue.ready (id, at, queue_id, lane, type_id, priority)
    select n, ${now}, 1, 1 + n / 1000, 1, 3 from generate_series(1, ${MILLION}) as n`,
  );
  await withoutIndexes(
    sql,
    "queue.scheduled",
    () => sql`
    insert into queue.scheduled (id, at, queue_id, lane, type_id, priority)
    select ${MILLION} + n, ${now}::timestamptz + interval '1 day', 1, 1 + n / 1000, 1, 0
    from generate_series(1, ${MILLION}) as n`,
  );
  await sql`
    insert into queue.runs (job_id, lease_id, started_at, finished_at, outcome, to_status, attempt)
    select n, nextval('queue.lease_ids'), ${now}, ${now}, 'released', 'pending', 1
    from generate_series(1, ${MILLION / 10}) as n`;
  await sql`
    insert into queue.leases (id, claimed_at, expires_at, worker_id, crashes, job_ids, attempts)
    select nextval('queue.lease_ids'), ${now}, ${now}::timestamptz + interval '1 hour', 1, 0, array[${MILLION} + n], array[1]
    from generate_series(1, 1000) as n`;
  await sql`select setval('queue.job_ids', ${2 * MILLION})`;
}

/** Fills a table faster: its indexes go first and come back as they were. */
async function withoutIndexes(
  sql: TestSql,
  table: string,
  work: () => PromiseLike<unknown>,
): Promise<void> {
  const indexes = await sql<{ drop: string; create: string }[]>`
    select
      case when k.oid is null then format('drop index %s', i.indexrelid::regclass)
        else format('alter table %s drop constraint %I', i.indrelid::regclass, k.conname) end as drop,
      case when k.oid is null then pg_get_indexdef(i.indexrelid)
        else format('alter table %s add constraint %I %s', i.indrelid::regclass, k.conname, pg_get_constraintdef(k.oid)) end as create
    from pg_index as i left join pg_constraint as k on k.conindid = i.indexrelid
    where i.indrelid = ${table}::regclass`;
  for (const { drop } of indexes) await sql.unsafe(drop);
  await work();
  for (const { create } of indexes) await sql.unsafe(create);
}

/** How many jobs a call of queue.advance or get_next_job brought. */
interface Advanced {
  readonly jobs: readonly ClaimedRow[];
  readonly mark: unknown;
}

function claimed({ answer }: Recording): Advanced {
  // The form of an answer of queue.advance.
  const { jobs, mark } = answer as { jobs: ClaimedColumns | null; mark: unknown };
  return { jobs: toRows(jobs), mark };
}

/** Settles these jobs and claims ten more. */
function fused(jobs: Advanced["jobs"]): string {
  const leases = jobs.map(([lease]) => lease);
  const ids = jobs.map(([, id]) => id);
  return `select queue.advance(1, array[${leases}]::bigint[], array[${ids}]::bigint[], p_limit => 10)`;
}

describeWithDatabase(
  "beside a million pending and a million future jobs",
  (context) => {
    let plans: PlanRecorder & AsyncDisposable;
    before(async () => {
      await fill(context.db);
      plans = await openPlanRecorder(context.db);
    });
    after(() => plans[Symbol.asyncDispose]());

    /** The second run of a statement: the first one reads the catalog. */
    const measure = async (statement: string): Promise<Recording> => {
      await plans.record(statement);
      return plans.record(statement);
    };

    const CLAIMS = [
      {
        what: "a worker claims one",
        statement: "select queue.advance(1, p_limit => 1)",
        most: 300,
      },
      {
        what: "a worker claims ten",
        statement: "select queue.advance(1, p_limit => 10)",
        most: 600,
      },
      {
        what: "get_next_job claims one",
        statement: "select * from public.get_next_job('w')",
        most: 500,
      },
      {
        what: "get_next_job claims by type",
        statement: "select * from public.get_next_job('w', array['mail'])",
        most: 500,
      },
      {
        what: "claim_next_job claims for a tenant",
        statement: "select * from public.claim_next_job('w', 'tenant 7')",
        most: 300,
      },
      {
        what: "enqueue_job brings one more",
        statement: "select public.enqueue_job('mail', p_tenant_id => 'tenant 7')",
        most: 100,
      },
      {
        what: "a producer enqueues ten",
        statement:
          "select queue.enqueue_alike('mail', '[1,2,3,4,5,6,7,8,9,10]', p_tenant_id => 'tenant 7')",
        most: 500,
      },
      {
        what: "the tick looks whether work is due",
        statement: "select public.trigger_queue_worker()",
        most: 100,
      },
      {
        what: "cleanup_stuck_jobs finds nothing",
        statement: "select public.cleanup_stuck_jobs()",
        most: 50,
      },
    ];
    for (const { what, statement, most } of CLAIMS) {
      it(`${what} and touches at most ${most} pages`, async () => {
        const measured = await measure(statement);

        assert.notEqual(measured.answer, undefined);
        assert.deepEqual(fullScans(measured), []);
        assert.ok(measured.buffers <= most, `${measured.buffers} pages`);
      });
    }

    it("maintenance has nothing to do and touches at most 500 pages", async () => {
      const measured = await measure("select queue.maintain()");

      assert.ok(measured.buffers <= 500, `${measured.buffers} pages`);
    });

    const LOOKS = [
      "select * from public.job_queue where id = 500000",
      "select * from public.queue_jobs where id = 500000",
      "select * from public.job_status_history where job_id = 50000 order by seq, part",
      "select queue.job_outcome(50000)",
    ];
    for (const statement of LOOKS) {
      it(`one job is looked up in at most 300 pages: ${statement}`, async () => {
        const measured = await measure(statement);

        assert.ok(measured.answer);
        assert.ok(measured.buffers <= 300, `${measured.buffers} pages`);
      });
    }

    it("a claim of a type without jobs comes back empty at once", async () => {
      const measured = await measure("select * from public.get_next_job('w', array['rare'])");

      assert.equal(measured.answer, undefined);
      assert.ok(measured.buffers <= 100, `${measured.buffers} pages`);
    });

    it("a job of high priority is found at once", async () => {
      await rigOf(context.db).enqueue("mail", { priority: "critical" });

      const measured = await plans.record("select queue.advance(1, p_limit => 1)");

      assert.equal(claimed(measured).jobs[0]?.[4], "critical");
      assert.ok(measured.buffers <= 300, `${measured.buffers} pages`);
    });

    it("ten jobs are settled and ten claimed in at most 1500 pages", async () => {
      const first = claimed(await plans.record("select queue.advance(1, p_limit => 10)"));
      const second = claimed(await plans.record(fused(first.jobs)));

      const measured = await plans.record(fused(second.jobs));

      assert.equal(claimed(measured).jobs.length, 10);
      assert.deepEqual(fullScans(measured), []);
      assert.ok(measured.buffers <= 1500, `${measured.buffers} pages`);
    });

    const ENDINGS = [
      {
        what: "complete_job",
        call: (id: string, lease: string) => `complete_job(${id}, null, ${lease})`,
      },
      {
        what: "fail_job",
        call: (id: string, lease: string) => `fail_job(${id}, 'no', true, null, ${lease})`,
      },
      {
        what: "a last fail_job",
        call: (id: string, lease: string) => `fail_job(${id}, 'no', false, null, ${lease})`,
      },
    ];
    for (const { what, call } of ENDINGS) {
      it(`${what} touches at most 400 pages`, async () => {
        const jobs = await rigOf(context.db).claim("mail", { batch: 2 });
        const [warm, cold] = jobs.map(({ id, lease_id }) => `select public.${call(id, lease_id)}`);
        await plans.record(warm ?? "");

        const measured = await plans.record(cold ?? "");

        assert.ok(measured.answer);
        assert.deepEqual(fullScans(measured), []);
        assert.ok(measured.buffers <= 400, `${measured.buffers} pages`);
      });
    }

    it("a thousand future jobs that fall due are moved without looking at the rest", async () => {
      await context.db.sql`
        insert into queue.scheduled (id, at, queue_id, lane, type_id, priority)
        select 3000000 + n, queue.clock(), 1, 1, 1, 3 from generate_series(1, 1000) as n`;

      const measured = await plans.record("select queue.promote_due()");

      assert.equal(measured.answer, 1000);
      assert.deepEqual(fullScans(measured), []);
      assert.ok(measured.buffers <= 20_000, `${measured.buffers} pages`);
    });

    it("what was claimed while somebody holds a snapshot does not make the next claim dearer", async (t) => {
      const holder = context.db.connect({ max: 1 });
      await holder`begin isolation level repeatable read`;
      await holder`select from queue.settings`;
      t.after(() => holder`rollback`);
      const { sql } = context.db;
      await sql`select public.enqueue_job('vacant', p_scheduled_at => '2100-01-01')`;
      // Tokens that lie in the table in no order: each dead one that is met on the way costs a page.
      await sql`
        with job as (
          insert into queue.jobs (id, created_at, type_id, queue_id, tenant_id, born, max_retries, priority, payload)
          select 4000000 + n, queue.clock(), type.id, line.id, 0, 'pending', 3, 2, '{}'
          from generate_series(1, 3500) as n, queue.types as type, queue.queues as line
          where type.name = 'vacant' and line.name = 'vacant'
          returning *
        )
        insert into queue.ready (id, at, queue_id, lane, type_id, priority)
        select id, created_at, queue_id, 0, type_id, priority from job order by random()`;
      const [type] = await sql`select id from queue.types where name = 'vacant'`;
      const claim = async (limit: number, mark: unknown) =>
        plans.record(
          `select queue.advance(1, p_limit => ${limit}, p_type_ids => array[${type?.["id"]}], p_mark => '${JSON.stringify(mark)}')`,
        );
      let { mark } = claimed(await claim(1000, null));
      for (const _ of [2, 3]) mark = claimed(await claim(1000, mark)).mark;

      const withMark = await claim(1, mark);
      const without = await claim(1, null);

      assert.deepEqual(
        [withMark, without].map((one) => claimed(one).jobs.length),
        [1, 1],
      );
      assert.ok(withMark.buffers <= 200, `${withMark.buffers} pages`);
      assert.ok(
        without.buffers > 1000,
        `${without.buffers} pages: dead tokens were not in the way`,
      );
    });
  },
  { pooler: false },
);

describeOnEachServer(
  "beside empty tables",
  (context) => {
    let plans: PlanRecorder & AsyncDisposable;
    before(async () => {
      // Plans are pinned: they don't trust statistics, least of all those of an empty table.
      await context.db.superSql`analyze`;
      await context.db.sql`insert into queue.queues (name, is_fifo) values ('b', true)`;
      plans = await openPlanRecorder(context.db);
    });
    after(() => plans[Symbol.asyncDispose]());

    const STATEMENTS = [
      "select queue.advance(1, p_limit => 10)",
      "select * from public.get_next_job('w')",
      "select * from public.get_next_job('w', array['a', 'b'], 10)",
      "select * from public.get_next_job('w', p_tenant_id => 't')",
      "select queue.arm_bells(1, null, null)",
      "select queue.advance(1, p_whole_leases => '{1}', p_whole_sizes => '{1}', p_whole_elapsed_ms => '{1}')",
      "select public.complete_job(1, null, 1)",
      "select public.fail_job(1, 'no', true, null, 1)",
      "select queue.settle_one(1, 1, 'snoozed')",
      `select queue.extend_leases(1, '{1}', 1000)`,
      "select public.cleanup_stuck_jobs()",
      "select public.trigger_queue_worker()",
      // Jobs of a kind that nobody else here wants.
      "select queue.enqueue_one('c')",
      "select queue.enqueue_alike('c', '[1, 2]')",
    ];
    for (const statement of STATEMENTS) {
      it(`no table is read from end to end by: ${statement}`, async () => {
        const { start } = rigOf(context.db);
        await start("a", { tenant: "t" });
        await rigOf(context.db).enqueue("b", { tenant: "t" });

        const measured = await plans.record(statement);

        assert.ok(measured.scans.length > 0);
        assert.deepEqual(fullScans(measured), []);
      });
    }
  },
  { pooler: false },
);
