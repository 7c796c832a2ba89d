import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { toMs } from "../../src/core/durations.ts";

test("durations are read in every unit, and put together", () => {
  assert.equal(toMs(250, "delay"), 250);
  assert.equal(toMs("250ms", "delay"), 250);
  assert.equal(toMs("1.5s", "delay"), 1_500);
  assert.equal(toMs("10m", "delay"), 600_000);
  assert.equal(toMs("1h30m", "delay"), 5_400_000);
  assert.equal(toMs("2d", "delay"), 172_800_000);
});

test("what is no duration is refused with the option's name and what was received", () => {
  for (const wrong of ["", "10", "m", "-5s", "5 s", "1m5", "five", Number.NaN, -1, Infinity]) {
    assert.throws(() => toMs(wrong as never, "timeout"), {
      code: "INVALID_OPTION",
      option: "timeout",
      message: /must be milliseconds or a text like "30s".*got/,
    });
  }
});

test("any whole number of milliseconds survives the way through a text", () => {
  fc.assert(
    fc.property(fc.nat(), (ms) => {
      assert.equal(toMs(`${ms}ms`, "delay"), ms);
    }),
  );
});
