import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { backoffDelay } from "../../src/core/backoff.ts";

const backoff = { baseMs: 1_000, capMs: 60_000, jitter: 0.5 };

test("without luck the delay doubles with each failure, up to the cap", () => {
  const delays = [0, 1, 2, 5, 6, 60, 5_000].map((failures) => backoffDelay(backoff, failures, 0));

  assert.deepEqual(delays, [1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000]);
});

test("half of the delay is left to chance by default: it lies between half and the whole", () => {
  fc.assert(
    fc.property(
      fc.nat({ max: 100 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (failures, random) => {
        const whole = backoffDelay(backoff, failures, 0);
        const delay = backoffDelay(backoff, failures, random);
        assert.ok(delay <= whole && delay >= whole / 2);
      },
    ),
  );
});

test("different luck gives different delays, so that retries of one outage spread out", () => {
  const delays = new Set([0, 0.25, 0.5, 0.75].map((random) => backoffDelay(backoff, 3, random)));

  assert.equal(delays.size, 4);
});

test("without jitter chance has no say", () => {
  const exact = { ...backoff, jitter: 0 };

  assert.equal(backoffDelay(exact, 1, 0.9), 2_000);
});
