import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { silentLogger } from "../../src/index.ts";
import { ChildSweep } from "../../src/worker/child-sweep.ts";
import { fakeClock } from "../core/fake-clock.ts";

test("a sweep that is under way at the worker's end is not tried again after it", async () => {
  const over = new AbortController();
  let calls = 0;
  const sweep = new ChildSweep({
    settings: { clock: fakeClock(), logger: silentLogger } as never,
    link: {
      ready: async () => undefined,
      call: () => {
        calls += 1;
        return new Promise((_, reject) => {
          over.signal.addEventListener("abort", () => reject(over.signal.reason));
        });
      },
    } as never,
    onFreed: () => undefined,
    onRest: () => undefined,
  });
  let hasEnded = false;
  const running = sweep.run(over.signal).then(() => {
    hasEnded = true;
  });
  sweep.wake();
  await turn();
  assert.equal(calls, 1);

  over.abort();
  sweep.wakeup.wake();
  await turn();

  assert.deepEqual([hasEnded, calls], [true, 1]);
  await running;
});
