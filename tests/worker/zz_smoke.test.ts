import { it } from "node:test";
import assert from "node:assert/strict";
import { describeWithDatabase } from "../support/suite.ts";
import { createQueue, createWorker, defineJob, implement, consoleLogger, snooze, discard } from "../../src/index.ts";
import { connect } from "../../src/db/postgres-js.ts";
import { z } from "zod";
describeWithDatabase("smoke", (context) => {
  it("works", async () => {
    const sql = connect(context.db.url);
    const queue = createQueue({ sql });
    const add = defineJob("add", { input: z.object({ a: z.number(), b: z.number() }), output: z.number() });
    const flaky = defineJob("flaky", { maxRetries: 1, backoff: { base: 50, jitter: 0 } });
    const worker = createWorker({ sql, logger: consoleLogger({ level: "debug" }), handlers: [
      implement(add, ({ input }) => input.a + input.b),
      implement(flaky, async ({ attempt }) => { throw new Error("no " + attempt.number); }),
    ]});
    const job = await queue.enqueue(add, { a: 1, b: 2 });
    const bad = await queue.enqueue(flaky, {});
    await worker.start();
    assert.equal(await job.result(), 3);
    await assert.rejects(bad.result(), { code: "JOB_FAILED", attempts: 2 });
    const later = await queue.enqueue(add, { a: 3, b: 2 }, { delay: "1s" });
    console.log(await queue.explain(later));
    assert.equal(await later.result(), 5);
    console.log(await queue.history(bad));
    await worker.stop();
    await sql.close();
  });
});
