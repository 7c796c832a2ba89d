import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";

interface Found {
  readonly code: string;
  readonly found: number;
  readonly is_repairable: boolean;
  readonly is_repaired: boolean;
  readonly message: string;
}

describeOnEachServer("after a failover", (context) => {
  beforeEach(async () => {
    await context.db.superSql`
      truncate queue.jobs, queue.runs, queue.ready, queue.scheduled, queue.waiting, queue.leases, queue.dependencies,
        queue.dead_letters, queue.workers cascade`;
  });

  async function reconcile(dryRun: boolean): Promise<readonly Found[]> {
    const [row] = await context.db.sql<{ found: Found[] }[]>`
      select queue.reconcile(${dryRun}) as found`;
    return row?.found ?? [];
  }

  /** Looks twice, repairs, and looks again; answers what was told at first. */
  async function repaired(): Promise<readonly Found[]> {
    const looked = await reconcile(true);
    assert.deepEqual(await reconcile(true), looked, "a look changes nothing");
    const done = await reconcile(false);
    assert.deepEqual(
      done.map(({ code, is_repaired }) => [code, is_repaired]),
      looked.map(({ code, is_repairable }) => [code, is_repairable]),
    );
    const left = await reconcile(true);
    assert.deepEqual(
      left,
      looked.filter((one) => !one.is_repairable),
    );
    return looked;
  }

  async function enqueue(): Promise<string> {
    const [row] = await context.db.sql<{ id: string }[]>`
      select public.enqueue_job('kept')::text as id`;
    return row?.id ?? "";
  }

  it("a queue in which jobs stand in every place has nothing to reconcile", async () => {
    const { sql } = context.db;
    const parent = await enqueue();
    await sql`select public.enqueue_job('kept', p_depends_on => array[${parent}::bigint])`;
    await sql`select public.enqueue_job('kept', p_scheduled_at => queue.clock() + interval '1 day')`;
    const cancelled = await enqueue();
    await sql`select public.cancel_job(${cancelled})`;
    const failed = await enqueue();
    await sql`select * from public.get_next_job('w', '{kept}', 2)`;
    await sql`select public.fail_job(${failed}, 'no', false)`;
    await enqueue();

    assert.deepEqual(await reconcile(true), []);
    assert.deepEqual(await reconcile(false), []);
  });

  it("sequences that lie behind what is in use are moved on", async () => {
    const { sql, superSql } = context.db;
    const id = await enqueue();
    await sql`select * from public.get_next_job('w', '{kept}', 1)`;
    await superSql`select setval('queue.job_ids', greatest(1, ${id}::bigint - 1))`;
    await superSql`select setval('queue.lease_ids', 1)`;

    const [found] = await repaired();

    assert.equal(found?.code, "sequences_behind");
    assert.equal(
      found.message,
      "Sequences that lie behind the highest number in use: queue.job_ids, queue.lease_ids",
    );
    const next = await enqueue();
    assert.ok(BigInt(next) > BigInt(id));
  });

  it("what waits to be claimed and is no job is removed, and jobs beside it stay", async () => {
    const { superSql } = context.db;
    const id = await enqueue();
    await superSql`
      insert into queue.ready select (jsonb_populate_record(token, '{"id": 999999999}')).*
      from queue.ready as token where token.id = ${id}`;

    const [found] = await repaired();

    assert.deepEqual([found?.code, found?.found], ["tokens_without_jobs", 1]);
    const tokens = await superSql<{ id: string }[]>`select id::text from queue.ready`;
    assert.deepEqual(
      tokens.map((token) => token.id),
      [id],
    );
  });

  it("a job that is neither open nor ended is told, and left alone", async () => {
    const { superSql } = context.db;
    const id = await enqueue();
    await enqueue();
    await superSql`delete from queue.ready where id = ${id}`;

    const [found] = await repaired();

    assert.deepEqual([found?.code, found?.found, found?.is_repairable], ["jobs_nowhere", 1, false]);
    assert.match(found?.message ?? "", new RegExp(`the first is ${id}$`));
  });

  it("leases of workers that are not known are told: their jobs come back by themselves", async () => {
    const { sql, superSql } = context.db;
    await enqueue();
    await sql`select * from public.get_next_job('w', '{kept}', 1)`;
    await superSql`delete from queue.workers`;

    const [found] = await repaired();

    assert.deepEqual([found?.code, found?.found], ["leases_of_strangers", 1]);
  });

  it("partitions for ids to come are made", async () => {
    const { superSql } = context.db;
    const ahead = await superSql<{ number: string }[]>`
      select number::text from queue.partitions order by number desc limit 3`;
    for (const { number } of ahead) {
      await superSql.unsafe(`
        delete from queue.partitions where number = ${number};
        drop table queue.jobs_p${number}, queue.runs_p${number}`);
    }

    const [found] = await repaired();

    assert.deepEqual([found?.code, found?.found], ["partitions_missing", 3]);
  });

  it("grants of workers come back, and nobody else may call what they call", async () => {
    const { sql } = context.db;
    await sql`revoke execute on function queue.advance from millrace_worker`;
    await sql`grant execute on function queue.settle to public`;

    const [found] = await repaired();

    assert.deepEqual([found?.code, found?.found], ["wrong_grants", 2]);
  });

  it("policies of another owner are mended before anything else is looked at", async () => {
    const { sql, superSql } = context.db;
    await superSql`alter role postgres nobypassrls`;
    try {
      await sql`alter policy machine on queue.jobs to millrace_worker`;

      const [found] = await repaired();

      assert.deepEqual([found?.code, found?.found], ["other_owner", 1]);
    } finally {
      await superSql`alter role postgres bypassrls`;
    }
  });

  it("ids that were moved on, as after a restore or a promotion, are never moved back", async () => {
    const { sql, superSql } = context.db;
    await enqueue();
    await sql`select * from public.get_next_job('w', '{kept}', 1)`;
    const [moved] = await superSql<{ job: string; lease: string }[]>`
      select setval('queue.job_ids', (
          select min(part.first_id) from queue.partitions as part, queue.job_ids as ids where part.first_id > ids.last_value
        ), false)::text as job,
        setval('queue.lease_ids', (select ids.last_value + 1000000 from queue.lease_ids as ids), false)::text as lease`;

    assert.deepEqual(await reconcile(true), []);
    assert.deepEqual(await reconcile(false), []);

    assert.equal(await enqueue(), moved?.job);
    const [claimed] = await sql`
      select lease_id::text from public.get_next_job('w', '{kept}', 1)`;
    assert.equal(claimed?.["lease_id"], moved?.lease);
  });
});
