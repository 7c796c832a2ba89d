/**
 * The plans of the claim and of the settlement. What they touch does not grow with the backlog, with
 * future jobs, nor with a snapshot that somebody holds, and no big table is ever read from end to
 * end, also where statistics say that it is empty.
 */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { describeOnEachServer, describeWithDatabase } from "../support/suite.ts";
import { openPlanRecorder, type PlanRecorder, type Recording } from "./plan-recorder.ts";
import { rigOf } from "./rig.ts";

const MILLION = 1_000_000;

/** What grows with the work; the small tables of names may be read whole. */
const BIG =
  /^(Seq|Bitmap Heap|Sample) Scan on (ready|scheduled|waiting|dependencies|leases|jobs|runs|dead_letters)(_p\d+)?$/;

function fullScans({ scans }: Recording): string[] {
  return scans.filter((scan) => BIG.test(scan));
}

/** A million pending jobs of low priority in a thousand lanes, a million in the future, leases and runs. */
async function fill(db: TestDatabase): Promise<void> {
  const sql = db.connect({ max: 1 });
  await sql`select public.enqueue_job('mail'), public.enqueue_job('rare')`;
  await sql`truncate queue.jobs, queue.ready`;
  // A hurry for tests alone; plans are the same.
  await sql.unsafe(`
    set maintenance_work_mem = '256MB';
    alter table queue.jobs_p1 set unlogged;
    alter table queue.ready set unlogged;
    alter table queue.scheduled set unlogged;
  `);
  await sql`
    insert into queue.jobs (id, created_at, type_id, queue_id, tenant_id, born, max_retries, priority, payload)
    select n, queue.clock(), 1, 1, 1 + n / 1000, 'pending', 3, 3, '{}' from generate_series(1, ${MILLION}) as n`;
  await withoutIndexes(
    sql,
    "queue.ready",
    () => sql`
    insert into queue.ready (id, at, queue_id, lane, type_id, priority)
    select n, queue.clock(), 1, 1 + n / 1000, 1, 3 from generate_series(1, ${MILLION}) as n`,
  );
  await withoutIndexes(
    sql,
    "queue.scheduled",
    () => sql`
    insert into queue.scheduled (id, at, queue_id, lane, type_id, priority)
    select ${MILLION} + n, queue.clock() + interval '1 day', 1, 1 + n / 1000, 1, 0
    from generate_series(1, ${MILLION}) as n`,
  );
  await sql`
    insert into queue.runs (job_id, lease_id, started_at, finished_at, outcome, to_status, attempt)
    select n, nextval('queue.lease_ids'), queue.clock(), queue.clock(), 'released', 'pending', 1
    from generate_series(1, ${MILLION / 10}) as n`;
  await sql`
    insert into queue.leases (id, claimed_at, expires_at, worker_id, crashes, job_ids, attempts)
    select nextval('queue.lease_ids'), queue.clock(), queue.clock() + interval '1 hour', 1, 0, array[${MILLION} + n], array[1]
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

describeWithDatabase("x", (context) => {
  let plans: Awaited<ReturnType<typeof openPlanRecorder>>;
  before(async () => {
    const t = performance.now();
    await fill(context.db);
    console.log("fill", performance.now() - t);
    plans = await openPlanRecorder(context.db);
  });
  after(() => plans[Symbol.asyncDispose]());
  it("probe", async () => {
    const { enqueue } = rigOf(context.db);
    for (let i = 0; i < 3; i++) await enqueue("mail", { priority: "high", tenant: `t${i}` });
    const show = (l: string, r: Recording) =>
      console.log(
        l,
        r.buffers,
        r.scans.filter((s) => !/Index Scan|Tid|clock/.test(s)).join(),
        JSON.stringify(r.answer ?? null).slice(0, 100),
      );
    const a = await plans.record("select queue.advance(1, p_limit => 1)");
    show("advance", a);
    show("advance", await plans.record("select queue.advance(1, p_limit => 1)"));
    show("get", await plans.record("select * from public.get_next_job('w')"));
    show("get", await plans.record("select * from public.get_next_job('w')"));
    show("get10", await plans.record("select * from public.get_next_job('w', p_batch => 10)"));
    show("get100", await plans.record("select * from public.get_next_job('w', p_batch => 100)"));
    show("types", await plans.record("select * from public.get_next_job('w', array['mail'])"));
    show("other", await plans.record("select * from public.get_next_job('w', array['rare'])"));
    show(
      "tenant",
      await plans.record("select * from public.get_next_job('w', p_tenant_id => 't')"),
    );
    const got = (a.answer as { jobs: string[][] }).jobs[0]!;
    show("complete", await plans.record(`select public.complete_job(${got[1]}, null, ${got[0]})`));
    const b = await plans.record("select queue.advance(1, p_limit => 10)");
    const jobs = (b.answer as { jobs: string[][] }).jobs;
    show(
      "fused",
      await plans.record(
        `select queue.advance(1, array[${jobs.map((j) => j[0])}], array[${jobs.map((j) => j[1])}], p_limit => 10)`,
      ),
    );
  });
});
