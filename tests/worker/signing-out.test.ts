import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate } from "./rig.ts";

const task = defineJob("brought");
const HOUR = 3_600_000;

describeOnEachServer("signing out", (context) => {
  it("waits for a call that is just asking for the next job", async () => {
    const sql = connect(context.db.url);
    const sent: string[] = [];
    const mayArm = gate();
    const arming = gate();
    let isHeld = false;
    // The acceptance of a job that was brought arms the bell as well: it is held back until the stop has begun.
    const slow: Sql = {
      ...sql,
      query: async (text, params, options) => {
        if (isHeld && text.includes("queue.arm_bells")) {
          isHeld = false;
          arming.open();
          await mayArm.opened;
          // It is under way in the database: nobody can call it back.
          const answer = await sql.query(text, params);
          sent.push("armed");
          return answer;
        }
        if (text.includes("unregister_worker")) sent.push("signed out");
        try {
          return await sql.query(text, params, options);
        } finally {
          if (text.includes("disarm_bells") || text.includes("unregister_worker")) mayArm.open();
        }
      },
    };
    const handler = implement(task, () => "done");
    const worker = createWorker({
      sql: slow,
      handlers: [handler],
      logger: silentLogger,
      pollIntervalMs: HOUR,
    });
    try {
      const queue = createQueue({ sql });
      // The first job makes the queue known.
      const first = await queue.enqueue(task, {});
      await worker.start();
      await first.result();
      await eventually(async () => {
        const bells = await context.db.superSql<{ worker_id: number }[]>`
          select worker_id from queue.bells where channel is not null`;
        if (bells.length > 0) return true;
        const [any] = await context.db.superSql<{ id: number }[]>`select id from queue.workers`;
        await sql.query("select pg_notify('millrace', $1::text)", [`w:${any?.id}`]);
        return false;
      });
      isHeld = true;
      const job = await queue.enqueue(task, {});
      await arming.opened;
      assert.equal(await job.result({ timeoutMs: 10_000 }), "done");

      await worker.stop();

      await eventually(() => sent.length > 1);
      assert.deepEqual(sent, ["armed", "signed out"]);
      const bells = await context.db.superSql`select from queue.bells`;
      assert.equal(bells.length, 0, "what is enqueued from now on is offered to nobody");
    } finally {
      await worker.stop();
      await sql.close();
    }
  });
});
