// graphile-worker 0.18 with the settings its documentation recommends for throughput: a local queue of 500, batched
// completion, 24 concurrent jobs. Completed jobs are deleted: it keeps no history.

import { Logger, makeWorkerUtils, type Runner, run } from "graphile-worker";
import { Pool } from "pg";
import { serve } from "./protocol.ts";

const quiet = new Logger(() => () => undefined);
let pool: Pool | undefined;
let runner: Runner | undefined;

serve({
  async setup(url) {
    const utils = await makeWorkerUtils({ connectionString: url, logger: quiet });
    await utils.migrate();
    await utils.release();
  },
  async enqueue(url, jobs) {
    const utils = await makeWorkerUtils({ connectionString: url, logger: quiet });
    for (let from = 0; from < jobs; from += 10_000) {
      const count = Math.min(10_000, jobs - from);
      await utils.addJobs(
        Array.from({ length: count }, (_, i) => ({ identifier: "noop", payload: { n: from + i } })),
      );
    }
    await utils.release();
  },
  async connect(url) {
    pool = new Pool({ connectionString: url, max: 20 });
    pool.on("error", () => undefined);
    pool.on("connect", (client) => client.on("error", () => undefined));
    await pool.query("select 1");
  },
  async work(_url, onRan) {
    if (pool === undefined) throw new Error("connect comes first");
    runner = await run({
      pgPool: pool,
      logger: quiet,
      noHandleSignals: true,
      preset: {
        worker: {
          concurrentJobs: 24,
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
      taskList: { noop: async () => onRan() },
    });
  },
  async stop() {
    await runner?.stop();
    await pool?.end();
  },
});
