import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  implement,
  silentLogger,
  type WorkerEvent,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate } from "./rig.ts";

const normal = defineJob<string, void>("normal", { queue: "work" });
const urgent = defineJob("urgent", { queue: "work", priority: "critical" });
/** Where `advance` takes its mark. */
const MARK = 15;

describeOnEachServer("an answer that brings a critical job late", (context) => {
  it("is worked on although the buffer has run empty meanwhile and no slot comes free", async () => {
    const inner = connect(context.db.url, { pooled: context.isPooled });
    const queue = createQueue({ sql: inner });
    const slow = gate();
    let round = gate();
    const isDrained = gate();
    let late = 0;
    // The answer of the first look for what is more urgent takes its time, as on a slow network.
    const sql: Sql = {
      ...inner,
      async query(text, params, options) {
        const isUrgentLook = String(params?.[MARK]).includes('"ranks"') && late === 0;
        if (!isUrgentLook) return inner.query(text, params, options);
        late += 1;
        await queue.enqueue(urgent, {});
        const rows = await inner.query(text, params, options);
        slow.open();
        await isDrained.opened;
        return rows;
      },
    };
    const events: WorkerEvent[] = [];
    const count = (kind: string): number => events.filter((event) => event.kind === kind).length;
    const worker = createWorker({
      sql,
      handlers: [
        implement(normal, ({ input }) =>
          input === "slow" ? Promise.race([slow.opened, round.opened]) : undefined,
        ),
        implement(urgent, () => undefined),
      ],
      queues: { work: 1 },
      prefetch: 10,
      logger: silentLogger,
      onEvent: (event) => events.push(event),
    });
    try {
      await worker.start();
      // Quick jobs teach the worker to fetch ahead.
      await queue.enqueueMany(normal, Array(50).fill("quick") as string[]);
      await eventually(() => count("completed") === 50);
      for (let given = -1; late === 0; round = gate()) {
        // Behind the slow one the others fill the buffer, for as long as it may be full.
        given = count("released");
        await queue.enqueueMany(normal, ["slow", ...Array(10).fill("quick")] as string[]);
        await eventually(() => late > 0 || count("released") > given);
        round.open();
      }
      // A slot is free only when nothing lies in the buffer.
      await eventually(() => worker.running === 0);
      isDrained.open();

      const [job] = await eventually(async () => {
        const ended = await queue.list({ type: "urgent", status: "completed" });
        return ended.length === 1 ? ended : undefined;
      });
      assert.equal(job?.attempts, 1);
    } finally {
      slow.open();
      round.open();
      isDrained.open();
      await worker.stop();
      await inner.close();
    }
  });
});
