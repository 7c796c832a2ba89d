import assert from "node:assert/strict";
import { test } from "node:test";
import { anySignal, deadline, Ending, pause, raceSignal, sleep } from "../../src/core/signals.ts";
import { fakeClock } from "./fake-clock.ts";

test("a sleep ends when its time has come, and not before", async () => {
  const clock = fakeClock();
  let isOver = false;
  const sleeping = sleep(100, undefined, clock).then(() => {
    isOver = true;
  });

  clock.advance(99);
  await Promise.resolve();
  assert.equal(isOver, false);
  clock.advance(1);
  await sleeping;
  assert.equal(isOver, true);
});

test("an aborted sleep rejects with the signal's reason and leaves no timer", async () => {
  const clock = fakeClock();
  const controller = new AbortController();
  const sleeping = sleep(100, controller.signal, clock);

  controller.abort(new Error("enough"));

  await assert.rejects(sleeping, /enough/);
  assert.equal(clock.timers, 0);
  await assert.rejects(sleep(1, controller.signal, clock), /enough/);
});

test("a pause never rejects", async () => {
  const controller = new AbortController();
  const pausing = pause(60_000, controller.signal);
  controller.abort();
  await pausing;
});

test("of several signals the first to abort gives the reason", () => {
  const one = new AbortController();
  const two = new AbortController();
  const linked = anySignal([one.signal, undefined, two.signal]);

  two.abort("two");
  one.abort("one");

  assert.equal(linked.signal.reason, "two");
});

test("a released link does not follow its signals any more", () => {
  const controller = new AbortController();
  const linked = anySignal([controller.signal]);

  linked.release();
  controller.abort();

  assert.equal(linked.signal.aborted, false);
});

test("a deadline aborts with its reason, unless the parent does before, or it is released", () => {
  const clock = fakeClock();
  const parent = new AbortController();
  const late = deadline(50, () => "late", undefined, clock);
  const followed = deadline(50, () => "late", parent.signal, clock);
  const released = deadline(50, () => "late", undefined, clock);

  parent.abort("parent");
  released.release();
  clock.advance(50);

  assert.equal(late.signal.reason, "late");
  assert.equal(followed.signal.reason, "parent");
  assert.equal(released.signal.aborted, false);
});

test("a race is won by whoever comes first", async () => {
  const controller = new AbortController();
  const never = new Promise<never>(() => undefined);

  assert.equal(await raceSignal(Promise.resolve(7), controller.signal), 7);
  const racing = raceSignal(never, controller.signal);
  controller.abort(new Error("stop"));
  await assert.rejects(racing, /stop/);
  await assert.rejects(raceSignal(Promise.reject(new Error("own")), undefined), /own/);
});

test("an ending gives everybody a signal of his own, and aborts all of them", () => {
  const ending = new Ending();
  const early = [ending.signal, ending.signal];
  assert.notEqual(early[0], early[1]);

  ending.abort("over");
  ending.abort("again");

  assert.deepEqual(
    [...early, ending.signal].map((signal) => signal.reason),
    ["over", "over", "over"],
  );
});
