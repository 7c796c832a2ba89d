import assert from "node:assert/strict";
import { test } from "node:test";
import { Deadlines, type Timed } from "../../src/worker/deadlines.ts";
import { fakeClock } from "../core/fake-clock.ts";

function timed(deadlineAt: number, expired: number[]): Timed {
  return { deadlineAt, expire: () => expired.push(deadlineAt) };
}

test("each expires when its time has come, whatever the order they were added in", () => {
  const clock = fakeClock();
  const deadlines = new Deadlines(clock);
  const expired: number[] = [];
  for (const at of [300, 100, 200]) deadlines.add(timed(at, expired));

  clock.advance(99);
  assert.deepEqual(expired, []);
  clock.advance(1);
  assert.deepEqual(expired, [100]);
  clock.advance(500);
  assert.deepEqual(expired, [100, 200, 300]);
  assert.equal(clock.timers, 0);
});

test("where the timer came late, a handler that has its answer already gets a moment to read it", () => {
  const clock = fakeClock();
  let lateMs = 0;
  const deadlines = new Deadlines({
    now: () => clock.now() + lateMs,
    setTimer: (callback, ms) => clock.setTimer(callback, ms),
  });
  const expired: number[] = [];
  const answered = timed(100, expired);
  deadlines.add(answered);
  deadlines.add(timed(200, expired));

  lateMs = 5_000;
  clock.advance(100);
  assert.deepEqual(expired, []);
  deadlines.remove(answered);
  clock.advance(100);
  assert.deepEqual(expired, [200]);
});

test("what ended in time does not expire", () => {
  const clock = fakeClock();
  const deadlines = new Deadlines(clock);
  const expired: number[] = [];
  const done = timed(100, expired);
  deadlines.add(done);
  deadlines.add(timed(200, expired));

  deadlines.remove(done);
  clock.advance(1_000);

  assert.deepEqual(expired, [200]);
});

test("there is one timer, however many deadlines", () => {
  const clock = fakeClock();
  const deadlines = new Deadlines(clock);
  for (let at = 1; at <= 1_000; at += 1) deadlines.add(timed(at, []));

  assert.equal(clock.timers, 1);
  deadlines.stop();
  assert.equal(clock.timers, 0);
});
