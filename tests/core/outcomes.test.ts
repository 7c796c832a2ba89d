import assert from "node:assert/strict";
import { test } from "node:test";
import { discard, fail, Outcome, snooze } from "../../src/core/outcomes.ts";

test("outcomes carry their delay in milliseconds and their reason", () => {
  const { kind, delayMs, reason } = snooze("10m", "too early");

  assert.deepEqual(
    { kind, delayMs, reason },
    { kind: "snoozed", delayMs: 600_000, reason: "too early" },
  );
  assert.equal(discard("obsolete").reason, "obsolete");
  assert.equal(fail(new Error("x"), { retryAfter: "2s" }).delayMs, 2_000);
  assert.equal(fail(new Error("x"), { retryable: false }).retryable, false);
  assert.ok(fail("x") instanceof Outcome);
});

test("a snooze that is none is refused", () => {
  assert.throws(() => snooze("later" as never), { code: "INVALID_OPTION", option: "delay" });
});
