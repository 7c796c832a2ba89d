// One program for Node, Deno and Bun: takes the database's URL as its argument, prints one line of JSON.
import assert from "node:assert/strict";
import process from "node:process";
import { z } from "zod";
import { connect } from "../../src/db/postgres-js.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  implement,
  implementBatch,
  silentLogger,
  snooze,
} from "../../src/index.ts";

const add = defineJob("add", {
  input: z.object({ a: z.number(), b: z.number() }),
  output: z.number(),
});
const moody = defineJob("moody", {
  maxRetries: 1,
  backoff: { base: 10, jitter: 0 },
  timeout: "5s",
});
const bulk = defineJob("bulk", { input: z.number() });

const sql = connect(process.argv[2] ?? "");
const queue = createQueue({ sql });
const rung = new Set<string>();
let calls = 0;
const worker = createWorker({
  sql,
  logger: silentLogger,
  queues: { add: 2, "*": 4 },
  handlers: [
    implement(add, ({ input }) => input.a + input.b),
    implement(moody, async ({ attempt, signal, progress, commitWith }) => {
      calls += 1;
      if (calls === 1) return snooze(5);
      if (attempt.number === 1) throw new Error("try again");
      progress(50, "half");
      assert.equal(signal.aborted, false);
      await commitWith(async (tx) => {
        await tx.query("select 1");
        return "committed";
      });
      return undefined;
    }),
    implementBatch(bulk, ({ jobs }) => jobs.map((job) => job.input * 2)),
  ],
  onEvent: (event) => rung.add(event.kind),
});

await worker.start();
const one = await queue.enqueue(add, { a: 1, b: 2 });
const two = await queue.enqueue(moody, {});
const three = await queue.enqueueMany(
  bulk,
  Array.from({ length: 100 }, (_, at) => at),
);
const results = await Promise.all(three.map((job) => job.result()));
const answer = {
  sum: await one.result(),
  moody: await two.result(),
  bulk: results.reduce<number>((total, result) => total + Number(result), 0),
};
await assert.rejects(queue.enqueue(add, { a: 1, b: "2" } as never), {
  code: "INVALID_PAYLOAD",
  path: "b",
});
await worker.stop();
await sql.close();

console.log(JSON.stringify({ ...answer, events: [...rung].sort() }));
