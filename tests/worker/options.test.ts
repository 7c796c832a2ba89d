import assert from "node:assert/strict";
import { test } from "node:test";
import type { Sql } from "../../src/db/sql.ts";
import { createWorker, defineJob, implement } from "../../src/index.ts";
import { toSettings } from "../../src/worker/options.ts";

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
    [{ handlers: "a" }, "handlers"],
    [{ middleware: "a" }, "middleware"],
    [{ middleware: [null] }, "middleware[0]"],
    [{ onEvent: "a" }, "onEvent"],
    [{ name: "a\u0000" }, "name"],
    [{ name: {} }, "name"],
    [{ tenantId: "\ud800" }, "tenantId"],
    [{ tenantId: 5 }, "tenantId"],
    [{ queues: { "\udfff": 1 } }, "queues"],
    [{ details: "a" }, "details"],
    [{ details: { host: "\u0000" } }, "details.host"],
    [{ details: { pid: 1n } }, "details.pid"],
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

test("jitter that is none leaves the waits between two looks as they are", () => {
  for (const random of [() => Number.NaN, () => -1, () => 1, () => Number.POSITIVE_INFINITY]) {
    const settings = toSettings({ sql, handlers, random });

    for (let at = 0; at < 100; at += 1) {
      const number = settings.random();
      assert.ok(number >= 0 && number < 1, `${random}: ${number}`);
    }
  }
  assert.equal(toSettings({ sql, handlers, random: () => 0.25 }).random(), 0.25);
});
