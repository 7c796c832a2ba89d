import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate } from "./rig.ts";

describeOnEachServer("a handler that commits together with its completion", (context) => {
  it("is not lost when another call sees that its job is done before the commit is answered", async () => {
    const inner = connect(context.db.url);
    const told = gate();
    // The answer to the commit takes longer than that to the report of progress, which finds the lease gone.
    const sql: Sql = {
      ...inner,
      async query(text, params, options) {
        const rows = await inner.query(text, params, options);
        if (text.includes("report_progress")) told.open();
        return rows;
      },
      async transaction(work, options) {
        const done = await inner.transaction(work, options);
        report?.(60);
        await told.opened;
        await new Promise((resolve) => setImmediate(resolve));
        return done;
      },
    };
    let report: ((percent: number) => void) | undefined;
    const kinds = new Set<string>();
    const job = defineJob("missed.commit", { maxRetries: 0 });
    const worker = createWorker({
      sql,
      handlers: [
        implement(job, async ({ progress, commitWith }) => {
          report = progress;
          await commitWith(async (tx) => {
            await tx.query("select 1");
            return "committed";
          });
          return undefined;
        }),
      ],
      listen: false,
      logger: silentLogger,
      onEvent: ({ kind }) => kinds.add(kind),
    });
    try {
      const one = await createQueue({ sql: inner }).enqueue(job, {});
      await worker.start();
      assert.equal(await one.result(), "committed");
    } finally {
      await worker.stop();
      await inner.close();
    }
    assert.deepEqual([...kinds].sort(), ["claimed", "completed", "started"]);
  });
});
