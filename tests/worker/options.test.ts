import assert from "node:assert/strict";
import { test } from "node:test";
import type { Sql } from "../../src/db/sql.ts";
import { createWorker, defineJob, implement } from "../../src/index.ts";

const sql: Sql = {
  query: () => Promise.reject(new Error("not used")),
  transaction: () => Promise.reject(new Error("not used")),
  close: () => Promise.resolve(),
};
const handlers = [implement(defineJob("a"), () => undefined)];

test("options that make no sense are refused when the worker is made, each with its name", () => {
  const cases: [object, string][] = [
    [{ handlers: [] }, "handlers"],
    [{ handlers: [...handlers, ...handlers] }, "handlers"],
    [{ concurrency: 0 }, "concurrency"],
    [{ concurrency: 1.5 }, "concurrency"],
    [{ queues: {} }, "queues"],
    [{ queues: { mail: 0 } }, "queues.mail"],
    [{ queues: { mail: 1 }, concurrency: 5 }, "concurrency"],
    [{ prefetch: -1 }, "prefetch"],
    [{ leaseMs: 10 }, "leaseMs"],
    [{ pollIntervalMs: 0 }, "pollIntervalMs"],
    [{ settleDelayMs: 20_000 }, "settleDelayMs"],
    [{ shutdownTimeoutMs: Number.NaN }, "shutdownTimeoutMs"],
    [{ sql: undefined }, "sql"],
  ];
  for (const [options, option] of cases) {
    assert.throws(() => createWorker({ sql, handlers, ...options }), {
      code: "INVALID_OPTION",
      option,
    });
  }
});

test("a new worker does nothing before it is started", () => {
  const worker = createWorker({ sql, handlers });

  assert.equal(worker.state, "new");
  assert.equal(worker.running, 0);
});
