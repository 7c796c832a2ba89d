import assert from "node:assert/strict";
import { it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "../../src/db/postgres-js.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  type Implementation,
  implement,
  silentLogger,
  type WorkerEvent,
  type WorkerOptions,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";

const low = defineJob("low", { queue: "work", priority: "low", maxRetries: 0 });
const urgent = defineJob("urgent", { queue: "work", priority: "critical", maxRetries: 0 });

describeOnEachServer("what a worker fetches ahead", (context) => {
  function start(
    handlers: readonly Implementation[],
    options: Partial<WorkerOptions> = {},
  ): { stop(): Promise<void>; begin(): Promise<void>; ends: Map<string, string> } {
    const sql = connect(context.db.url);
    const ends = new Map<string, string>();
    const onEvent = (event: WorkerEvent): void => {
      if ("job" in event && event.kind !== "started") ends.set(event.job.id, event.kind);
    };
    const worker = createWorker({
      sql,
      handlers,
      logger: silentLogger,
      shutdownTimeoutMs: 2_000,
      onEvent,
      ...options,
    });
    return {
      ends,
      begin: () => worker.start(),
      async stop() {
        await worker.stop();
        await sql.close();
      },
    };
  }

  for (const slowMs of [100, 300]) {
    it(`does not keep a critical job waiting, though handlers take ${slowMs} ms all of a sudden`, async () => {
      const sql = connect(context.db.url);
      const queue = createQueue({ sql });
      let ms = 1;
      let ran = 0;
      let urgentAt = Infinity;
      await queue.enqueueMany(low, Array(3_000).fill({}));
      const worker = start(
        [
          implement(low, async () => {
            ran += 1;
            await delay(ms);
          }),
          implement(urgent, () => {
            urgentAt = performance.now();
          }),
        ],
        { concurrency: 1 },
      );
      await worker.begin();
      await eventually(() => ran > 200, { timeoutMs: 30_000 });
      ms = slowMs;
      const before = ran;
      await eventually(() => ran > before + 1);

      const since = performance.now();
      const job = await queue.enqueue(urgent, {});
      await job.result();

      const tookMs = urgentAt - since;
      assert.ok(tookMs < 500 + slowMs + 100, `${Math.round(tookMs)} ms`);
      ms = 0;
      await worker.stop();
      await context.db.superSql`select queue.purge('work')`.catch(() => undefined);
      await sql.close();
    });
  }

  it("is no more than half a second of work, so that another worker gets the rest", async () => {
    const sql = connect(context.db.url);
    const queue = createQueue({ sql });
    const slow = defineJob("slow", { maxRetries: 0 });
    let ms = 1;
    const handler = implement(slow, async ({ signal }) => {
      await delay(ms, undefined, { signal }).catch(() => undefined);
    });
    const jobs = await queue.enqueueMany(slow, Array(2_000).fill({}));
    const workers = ["one", "two"].map((name) => start([handler], { name, concurrency: 2 }));
    for (const worker of workers) await worker.begin();
    await eventually(() => workers.every(({ ends }) => ends.size > 50), { timeoutMs: 30_000 });
    ms = 200;

    const held = await eventually(
      async () => {
        const rows = await context.db.superSql`
        select worker.name, sum(cardinality(lease.job_ids) - (
          select count(*) from queue.runs as run
          where run.lease_id = lease.id and run.job_id = any (lease.job_ids)))::integer as n
        from queue.leases as lease join queue.workers as worker on worker.id = lease.worker_id
        where worker.name in ('one', 'two') group by 1`;
        // Two run, and five more are half a second of work; half as much more is let lie.
        return rows.length === 2 && rows.every((row) => row["n"] <= 2 + 7) ? rows : undefined;
      },
      { timeoutMs: 3_000 },
    );
    assert.equal(held.length, 2);
    ms = 1;
    const all = jobs.map(({ id }) => id);
    await eventually(
      async () => {
        const [left] = await context.db.superSql`
          select count(*)::integer as n from queue.runs as run
          where run.job_id = any (${all}::bigint[]) and run.outcome = 'completed'`;
        return left?.["n"] === all.length;
      },
      { timeoutMs: 30_000 },
    );
    const [attempts] = await context.db.superSql`
      select max(run.attempt) as most from queue.runs as run where run.job_id = any (${all}::bigint[])`;
    assert.equal(attempts?.["most"], 1, "what was given back cost no attempt");
    for (const worker of workers) await worker.stop();
    await sql.close();
  });
});
