/** Jobs that a worker passes on: who may tell their end, and when, whatever else happens at that moment. */
import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import type { TransactionSql } from "postgres";
import type { TestSql } from "../support/connect.ts";
import { backendPid, waitForLockWait } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { type Leased, only, rigOf } from "./rig.ts";

describeOnEachServer("a job that was passed on", (context) => {
  beforeEach(() => rigOf(context.db).clear());

  async function handOver(
    sql: TestSql | TransactionSql,
    { id, lease_id }: Leased,
    ms = 60_000,
  ): Promise<boolean> {
    const [row] = await sql<{ passed: boolean }[]>`
      select queue.hand_over(lease.worker_id, lease.id, ${id}, ${ms}, '{"status": 202}') as passed
      from queue.leases as lease where lease.id = ${lease_id}`;
    return row?.passed ?? false;
  }

  async function tell(
    sql: TestSql,
    { id, lease_id }: Leased,
    report: string,
    detail: Readonly<Record<string, unknown>> = {},
  ): Promise<boolean> {
    const [row] = await sql<{ taken: boolean }[]>`
      select queue.answer_call(${id}, ${lease_id}, ${report}, ${sql.json(detail as never)}) as taken`;
    return only(row).taken;
  }

  for (const [report, detail] of [
    ["completed", { result: 1 }],
    ["failed", { error: { message: "out of ink" } }],
    ["extend", { seconds: 60 }],
    ["progress", { percent: 10 }],
  ] as const) {
    it(`may be reported on (${report}) while it is being passed on, beside others of its lease`, async () => {
      const { enqueue, claim } = rigOf(context.db);
      for (const _ of [1, 2]) await enqueue("reported");
      const [job] = await claim("reported", { batch: 2 });
      const reporting = context.db.connect({ max: 1 });
      const pid = await backendPid(reporting);
      let told: Promise<boolean> | undefined;

      await context.db.sql.begin(async (tx) => {
        assert.equal(await handOver(tx, only(job)), true);
        told = tell(reporting, only(job), report, detail);
        await waitForLockWait(context.db.superSql, pid);
      });

      assert.equal(await told, true);
    });
  }

  it("does not make its type look slow: what a run needs to know is how long the call takes", async () => {
    const { start } = rigOf(context.db);
    const job = await start("handed");
    await handOver(context.db.sql, job);
    await context.db.advance(50_000);
    await tell(context.db.sql, job, "completed");

    const [row] = await context.db.sql<{ plan: { usual_ms: Record<string, number> } }[]>`
      select queue.run_plan() as plan`;
    assert.equal(only(row).plan.usual_ms["handed"], undefined);
  });

  it("keeps no suspect from its worker, which did not die of it", async () => {
    const { enqueue, claim, sql } = rigOf(context.db);
    for (const _ of [1, 2]) await enqueue("suspect");
    for (const _ of [1, 2]) {
      await claim("suspect", { batch: 2, seconds: 10 });
      await context.db.advance(11_000);
      await sql`select public.cleanup_stuck_jobs()`;
    }
    const [first] = await claim("suspect", { batch: 2 });
    await handOver(sql, only(first));

    assert.equal((await claim("suspect", { batch: 2 })).length, 1);
  });

  it("has the time that it asked for before it was passed on", async () => {
    const { enqueue, claim, sql, status } = rigOf(context.db);
    for (const _ of [1, 2]) await enqueue("early");
    const [job] = await claim("early", { batch: 2 });
    assert.equal(await tell(sql, only(job), "extend", { seconds: 3_600 }), true);
    await handOver(sql, only(job), 1_000);

    await context.db.advance(1_800_000);
    await sql`select queue.maintain()`;

    assert.equal(await status(only(job).id), "processing");
  });

  for (const outcome of ["released", "failed", "completed"]) {
    it(`is no longer its worker's, who would have it ${outcome} without knowing`, async () => {
      const { start, status } = rigOf(context.db);
      const job = await start("alone");
      await handOver(context.db.sql, job);
      const item = { lease: job.lease_id, id: job.id, outcome };

      const settled = await context.db.sql`
        select settled.job_id from queue.leases as lease
        cross join queue.settle(${context.db.sql.json([item])}, lease.worker_id) as settled
        where lease.id = ${job.lease_id}`;

      assert.equal(settled.length, 0);
      assert.equal(await status(job.id), "processing");
      assert.equal(await tell(context.db.sql, job, "completed"), true);
    });
  }
});
