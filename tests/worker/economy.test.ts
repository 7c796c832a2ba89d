/** How often a worker and its producers speak with the database. Every statement is a commit: none opens a transaction. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { recording } from "./recording-sql.ts";

const JOBS = 1_000;
const cheap = defineJob<{ n: number }, void>("cheap");

describeOnEachServer("a thousand jobs", (context) => {
  const inputs = Array.from({ length: JOBS }, (_, n) => ({ n }));

  it("are enqueued by one statement, run and completed by a few", async () => {
    const real = connect(context.db.url);
    const { sql, sent } = recording(real);
    await createQueue({ sql }).enqueueMany(cheap, inputs);
    assert.equal(sent.length, 1);

    let ran = 0;
    const handler = implement(cheap, async () => {
      ran += 1;
    });
    const worker = createWorker({
      sql,
      handlers: [handler],
      concurrency: 24,
      logger: silentLogger,
    });
    await worker.drain();

    assert.equal(ran, JOBS);
    assert.ok(sent.every(({ text }) => !/^begin/i.test(text)));
    // Some five claims that grow, their settlements, signing in and out, the bell, maintenance.
    assert.ok(sent.length <= 60, `${sent.length} statements`);
    await real.close();
  });

  it("that ten producers enqueue one by one share statements", async () => {
    const real = connect(context.db.url);
    const { sql, sent } = recording(real);
    const queue = createQueue({ sql });
    let next = 0;
    const produce = async (): Promise<void> => {
      while (next < JOBS) {
        const n = next;
        next += 1;
        await queue.enqueue(cheap, { n });
      }
    };
    await Promise.all(Array.from({ length: 10 }, produce));

    assert.ok(sent.every(({ text }) => !/^begin/i.test(text)));
    assert.ok(sent.length <= JOBS / 8, `${sent.length} statements`);
    await real.close();
  });

  it("are claimed one claim at a time where claims are small: two could come in the wrong order", async () => {
    const real = connect(context.db.url);
    let underWay = 0;
    let most = 0;
    const sql: Sql = {
      ...real,
      async query(text, params = [], options) {
        // The limit of the step.
        const claims = text.includes("queue.advance(") && params[10] !== "0" ? 1 : 0;
        underWay += claims;
        most = Math.max(most, underWay);
        try {
          return await real.query(text, params, options);
        } finally {
          underWay -= claims;
        }
      },
    };
    const few = defineJob<{ n: number }, void>("few");
    await createQueue({ sql }).enqueueMany(few, inputs.slice(0, 10));
    const handlers = [implement(few, () => undefined)];
    await createWorker({
      sql,
      handlers,
      concurrency: 1,
      logger: silentLogger,
    }).drain();

    assert.equal(most, 1);
    await real.close();
  });
});
