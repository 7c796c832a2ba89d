import assert from "node:assert/strict";
import { test } from "node:test";
import { retryAfterMs } from "../../src/http/retry-after.ts";

const NOW = Date.parse("2026-11-22T10:00:00Z");

for (const [header, expected] of [
  ["0", 0],
  ["120", 120_000],
  [" 7 ", 7_000],
  ["Sun, 22 Nov 2026 10:00:30 GMT", 30_000],
  ["Sun, 22 Nov 2026 09:00:00 GMT", 0],
  ["99999999999", 86_400_000],
  ["-5", undefined],
  ["1.5", undefined],
  ["soon", undefined],
  ["", undefined],
  [null, undefined],
] as const) {
  test(`Retry-After: ${header ?? "(none)"} is ${expected ?? "nothing"}`, () => {
    assert.equal(retryAfterMs(header, NOW), expected);
  });
}
