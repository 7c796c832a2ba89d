import assert from "node:assert/strict";
import { test } from "node:test";
import { discard, fail, Outcome, readOutcome, snooze } from "../../src/core/outcomes.ts";

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

test("a reason may be anything; its words are kept", () => {
  assert.equal(discard(new TypeError("broken")).reason, "TypeError: broken");
  assert.equal(discard({ code: 5 }).reason, '{"code":5}');
  assert.equal(discard(undefined).reason, "undefined");
  assert.equal(snooze(1, Symbol("s")).reason, "Symbol(s)");
  assert.equal(discard("x".repeat(10_000_000)).reason?.length, 8_192);
  assert.equal(discard("a\u0000b").reason, "a\uFFFDb");
});

test("an outcome is read with care, whoever made it", () => {
  assert.deepEqual(
    { ...readOutcome({ [Symbol.for("millrace.outcome")]: true, kind: "odd", delayMs: Infinity }) },
    { kind: "failed", delayMs: undefined, reason: undefined, error: undefined, retryable: true },
  );
  assert.equal(
    readOutcome({ kind: "snoozed", delayMs: 5 }),
    undefined,
    "a result that looks like one",
  );
  assert.equal(readOutcome(null), undefined);
});

test("a wait that the database would cut is refused", () => {
  assert.equal(snooze("36500d").delayMs, 3_153_600_000_000);
  for (const wait of [1e308, 3_153_600_000_001, "999999999d"] as const) {
    assert.throws(() => snooze(wait), { code: "INVALID_OPTION", option: "delay" });
    assert.throws(() => fail("x", { retryAfter: wait }), {
      code: "INVALID_OPTION",
      option: "retryAfter",
    });
  }
});

test("a snooze that is none is refused", () => {
  assert.throws(() => snooze("later" as never), { code: "INVALID_OPTION", option: "delay" });
});
