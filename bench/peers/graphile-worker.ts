// graphile-worker 0.18. Tuned: the settings its documentation recommends for throughput, a local queue of 500, batched
// completion, 24 concurrent jobs, 20 connections. Default (BENCH_VARIANT=default): only 24 concurrent jobs and 20
// connections, all else as it comes. Completed jobs are deleted: it keeps no history. The delay after a first failure is fixed
// in its SQL: e^1 = 2.7 s.

import { Logger, makeWorkerUtils, type Runner, run, type WorkerUtils } from "graphile-worker";
import { Pool } from "pg";
import type { JobSpec, Payload } from "./protocol.ts";
import { serve } from "./serve.ts";

const isTuned = process.env["BENCH_VARIANT"] !== "default";
const quiet = new Logger(() => () => undefined);
let pool: Pool;
let utils: WorkerUtils;
let runner: Runner | undefined;

/** Larger numbers are less urgent; 0 is its default. */
const LOW = 10;

function toOptions({ delaySeconds, isLow }: JobSpec): { runAt?: Date; priority?: number } {
  return {
    ...(delaySeconds !== undefined && { runAt: new Date(Date.now() + delaySeconds * 1000) }),
    ...(isLow && { priority: LOW }),
  };
}

serve({
  async setup(url) {
    const own = await makeWorkerUtils({ connectionString: url, logger: quiet });
    await own.migrate();
    await own.release();
  },
  async connect(url) {
    pool = new Pool({ connectionString: url, max: 20 });
    pool.on("error", () => undefined);
    pool.on("connect", (client) => client.on("error", () => undefined));
    await pool.query("select 1");
    utils = await makeWorkerUtils({ pgPool: pool, logger: quiet });
  },
  async enqueueOne(job) {
    await utils.addJob("noop", job.payload, toOptions(job));
  },
  async enqueueMany(jobs) {
    await utils.addJobs(
      jobs.map((job) => ({ identifier: "noop", payload: job.payload, ...toOptions(job) })),
    );
  },
  async work({ concurrency = 24 }, handle) {
    const tuning = {
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    };
    runner = await run({
      pgPool: pool,
      logger: quiet,
      noHandleSignals: true,
      preset: { worker: { concurrentJobs: concurrency, ...(isTuned && tuning) } },
      taskList: { noop: (payload) => handle(payload as Payload) },
    });
  },
  async count() {
    const { rows } = await pool.query("select count(*) as n from graphile_worker.jobs");
    return { left: Number(rows[0]?.n), completed: null };
  },
  async settle() {
    await runner?.stop();
  },
});
