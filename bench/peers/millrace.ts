// Millrace with its defaults: a handler and a promise for each job, full history kept.

import { createQueue } from "../../src/client/create-queue.ts";
import { defineJob } from "../../src/core/define-job.ts";
import { implement } from "../../src/core/implement.ts";
import { migrate } from "../../src/db/migrate.ts";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createWorker, type Worker } from "../../src/worker/worker.ts";
import { serve } from "./protocol.ts";

const noop = defineJob<{ n: number }, void>("noop");
let sql: Sql | undefined;
let worker: Worker | undefined;

serve({
  async setup(url) {
    const connection = connect(url);
    await migrate(connection);
    await connection.close();
  },
  async enqueue(url, jobs) {
    const connection = connect(url);
    const queue = createQueue({ sql: connection });
    for (let from = 0; from < jobs; from += 10_000) {
      const count = Math.min(10_000, jobs - from);
      await queue.enqueueMany(
        noop,
        Array.from({ length: count }, (_, i) => ({ n: from + i })),
      );
    }
    await connection.close();
  },
  async connect(url) {
    sql = connect(url);
    await sql.query("select 1");
  },
  async work(_url, onRan) {
    if (sql === undefined) throw new Error("connect comes first");
    worker = createWorker({
      sql,
      handlers: [implement(noop, async () => onRan())],
      concurrency: 24,
    });
    await worker.start();
  },
  async stop() {
    await worker?.stop();
    await sql?.close();
  },
});
