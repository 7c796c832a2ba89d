/** What a worker of a queue with little to do says to the database, and in which order. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { recording, type Sent } from "./recording-sql.ts";
import { gate } from "./rig.ts";

const task = defineJob<{ waits: boolean }, void>("task");
const HOUR = 3_600_000;
/** The last quick look at an empty queue comes 200 ms after the one before; whoever is silent for longer has only the poll left. */
const SILENT_MS = 500;
/** Places of the parameters of queue.advance. */
const WHOLE_LEASES = 1;
const LIMIT = 10;

const isArm = ({ text }: Sent): boolean => text.includes("queue.arm_bells");
const isAdvance = ({ text }: Sent): boolean => text.includes("queue.advance");

describeOnEachServer(
  "a worker that has run a single job",
  (context) => {
    it("asks to be woken before it looks again, and tells the job's end without a look", async () => {
      const real = connect(context.db.url);
      const queue = createQueue({ sql: real });
      const { sql, sent } = recording(real);
      const goOn = gate();
      let sentBeforeStart = Infinity;
      const handler = implement(task, async ({ input }) => {
        if (!input.waits) return;
        sentBeforeStart = sent.length;
        await goOn.opened;
      });
      const worker = createWorker({
        sql,
        handlers: [handler],
        pollIntervalMs: HOUR,
        logger: silentLogger,
      });
      await worker.start();
      try {
        // The first makes the queue known, so that there is a bell to arm.
        await (await queue.enqueue(task, { waits: false })).result();
        await eventually(() => sent.some(isArm));
        const job = await queue.enqueue(task, { waits: true });
        const after = (): Sent[] => sent.slice(sentBeforeStart);
        let looksSeen = 0;
        let lastLookAt = Infinity;
        await eventually(() => {
          const seen = after().filter(isAdvance).length;
          if (seen > looksSeen) lastLookAt = performance.now();
          looksSeen = seen;
          return performance.now() - lastLookAt > SILENT_MS;
        });

        const [next] = after().filter((one) => isArm(one) || isAdvance(one));
        assert.ok(next && isArm(next), next?.text);

        const looks = sent.length;
        goOn.open();
        await job.result();
        const advances = sent.slice(looks).filter(isAdvance);
        const settled = advances.find(({ params }) => params[WHOLE_LEASES] !== null);
        assert.equal(settled?.params[LIMIT], "0");
      } finally {
        goOn.open();
        await worker.stop();
        await real.close();
      }
    });
  },
  { pooler: false },
);
