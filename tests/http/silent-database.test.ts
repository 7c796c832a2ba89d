import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import { defineJob, implement } from "../../src/http/index.ts";
import { eventually } from "../support/eventually.ts";
import { startFaultyProxy } from "../support/faulty-proxy.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { workerRig } from "./worker-rig.ts";

describeWithDatabase("a queue worker over HTTP whose database falls silent", (context) => {
  const rig = workerRig(context);

  it("works again once it answers: no call is waited for without end", async () => {
    const proxy = await startFaultyProxy(context.db.url);
    // Behind a pooler nobody can ask another connection after one that is silent.
    const sql = connect(proxy.url, { max: 2, pooled: true });
    const job = defineJob<number, number>("square");
    const worker = rig.workerOf({
      sql,
      handlers: [implement(job, ({ input }) => input ** 2)],
      lifeMs: 3_600_000,
    });
    const work = "?action=process&async=true";
    try {
      await rig.run(worker);
      proxy.swallow();
      await rig.queue.enqueue(job, 3);
      assert.equal((await rig.post(worker, work)).status, 202);

      const done = await eventually(
        async () => {
          await rig.post(worker, work);
          const ended = await rig.queue.list({ type: "square", status: "completed" });
          return ended.length === 1 ? ended : undefined;
        },
        { timeoutMs: 40_000, intervalMs: 500 },
      );
      assert.equal(done[0]?.attempts, 1);
    } finally {
      await worker.release();
      await sql.close();
      await proxy.close();
    }
  });
});
