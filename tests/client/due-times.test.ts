import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { it } from "node:test";
import { DueTimes } from "../../src/client/due-times.ts";
import { fakeClock } from "../core/fake-clock.ts";
import { randomFrom } from "../crash/plan.ts";

/** How late the shared timer may be beside one of each thing's own. */
const LATE_MS = 21;

it("each thing is called back at its time, as by a timer of its own, and none that was deleted", () => {
  for (let seed = 1; seed <= 50; seed += 1) {
    const random = randomFrom(seed);
    const clock = fakeClock();
    const told = new Map<number, number>();
    const dueTimes = new DueTimes<number>(clock, (thing) => {
      assert.ok(!told.has(thing), "called back once");
      told.set(thing, clock.now());
    });
    const dueAt = new Map<number, number>();
    for (let step = 0; step < 200; step += 1) {
      const thing = step;
      const ms = 1 + Math.floor(random() * 300);
      dueTimes.add(thing, ms);
      dueAt.set(thing, clock.now() + ms);
      if (random() < 0.5) {
        const gone = Math.floor(random() * step);
        dueTimes.delete(gone);
        if (!told.has(gone)) dueAt.delete(gone);
      }
      clock.advance(Math.floor(random() * 40));
    }
    clock.advance(1_000);

    assert.deepEqual([...told.keys()].sort(byNumber), [...dueAt.keys()].sort(byNumber));
    for (const [thing, at] of told) {
      const late = at - (dueAt.get(thing) ?? 0);
      assert.ok(late >= -1 && late <= LATE_MS, `${thing} of seed ${seed} was ${late} ms late`);
    }
  }
});

it("one that is due sooner than all others is called back first", () => {
  const clock = fakeClock();
  const told: string[] = [];
  const dueTimes = new DueTimes<string>(clock, (thing) => told.push(`${thing} ${clock.now()}`));
  dueTimes.add("late", 15_000);
  dueTimes.add("soon", 100);

  clock.advance(100);
  assert.deepEqual(told, ["soon 100"]);
  clock.advance(14_900);
  assert.deepEqual(told, ["soon 100", "late 15000"]);
});

it("what is added while others are called back has its time too", () => {
  const clock = fakeClock();
  const told: string[] = [];
  const dueTimes = new DueTimes<string>(clock, (thing) => {
    told.push(thing);
    if (thing === "first") dueTimes.add("second", 10);
  });
  dueTimes.add("first", 10);

  clock.advance(10);
  clock.advance(10 + LATE_MS);
  assert.deepEqual(told, ["first", "second"]);
});

it("a process that has nothing else to do is not kept alive", () => {
  const script = `
    import { DueTimes } from "./src/client/due-times.ts";
    import { systemClock } from "./src/core/clock.ts";
    new DueTimes(systemClock, () => {}).add("thing", 60_000);`;
  execFileSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
    timeout: 30_000,
  });
});

function byNumber(one: number, other: number): number {
  return one - other;
}
