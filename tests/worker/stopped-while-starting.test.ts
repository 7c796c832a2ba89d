import assert from "node:assert/strict";
import { it } from "node:test";
import { untilAborted } from "../../src/core/signals.ts";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createWorker, defineJob, implement, silentLogger, type Worker } from "../../src/index.ts";
import { describeOnEachServer } from "../support/suite.ts";

describeOnEachServer(
  "a worker that is told to stop while the database does not let it in",
  (context) => {
    /** A worker whose first statement is sent and never answered. */
    async function withSilence(
      work: (worker: Worker, isSent: Promise<void>) => Promise<void>,
    ): Promise<void> {
      const connection = connect(context.db.url);
      let tell: () => void = () => undefined;
      const isSent = new Promise<void>((resolve) => {
        tell = resolve;
      });
      const sql: Sql = {
        ...connection,
        async query(_text, _params, options) {
          tell();
          await (options?.signal ? untilAborted(options.signal) : new Promise(() => undefined));
          throw options?.signal?.reason;
        },
      };
      const handlers = [implement(defineJob("any"), () => undefined)];
      try {
        await work(createWorker({ sql, handlers, logger: silentLogger }), isSent);
      } finally {
        await connection.close();
      }
    }

    for (const way of ["run", "drain"] as const) {
      it(`ends at once when the signal of ${way} aborts, without an error`, () =>
        withSilence(async (worker, isSent) => {
          const over = new AbortController();
          const began = performance.now();
          const working = worker[way]({ signal: over.signal });
          await isSent;
          over.abort();
          await working;

          assert.equal(worker.state, "stopped");
          assert.ok(performance.now() - began < 2_000);
        }));
    }

    it("does not wait for as long as running jobs would get", () =>
      withSilence(async (worker, isSent) => {
        const began = performance.now();
        const starting = assert.rejects(worker.start(), { code: "WORKER_STATE" });
        await isSent;
        await worker.stop();
        await starting;

        assert.ok(performance.now() - began < 10_000);
      }));
  },
);
