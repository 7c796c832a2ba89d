import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { ClaimedRow } from "../../src/db/claimed-jobs.ts";
import { Attempt } from "../../src/worker/attempt.ts";
import { JobBuffer } from "../../src/worker/job-buffer.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

function attempt(id: number, priority = "normal"): Attempt {
  const row = ["1", String(id), "t", "q", priority, {}, null, 1, 3, 0, null, null];
  return new Attempt(row as never as ClaimedRow, {} as never, {} as never, {} as never, 0);
}

test("what was taken out of a buffer that never runs empty is not held on to", async () => {
  const buffer = new JobBuffer();
  const taken: WeakRef<Attempt>[] = [];
  for (let id = 0; id < 10; id += 1) buffer.push(attempt(id));
  for (let id = 10; id < 5_000; id += 1) {
    buffer.push(attempt(id));
    const next = buffer.shift();
    assert.equal(next?.id, String(id - 10));
    taken.push(new WeakRef(next as Attempt));
  }

  await turn();
  collectGarbage();

  const held = taken.filter((ref) => ref.deref() !== undefined).length;
  assert.ok(held <= 10, `${held} of ${taken.length} are held`);
  assert.equal(buffer.size, 10);
});

test("jobs leave in the order they came, more urgent ones first, however the buffer fills and empties", () => {
  const buffer = new JobBuffer();
  const left: string[] = [];
  let id = 0;
  for (const round of [3, 1, 7, 2, 20]) {
    for (let n = 0; n < round; n += 1) buffer.push(attempt(id++));
    buffer.push(attempt(id++, "critical"));
    for (let n = 0; n < round; n += 1) left.push(String(buffer.shift()?.id));
  }
  for (let next = buffer.shift(); next; next = buffer.shift()) left.push(next.id);

  assert.equal(left.length, id);
  const critical = ["3", "5", "13", "16", "37"];
  for (const one of critical) assert.ok(left.includes(one), one);
  const others = left.filter((one) => !critical.includes(one)).map(Number);
  assert.deepEqual(
    others,
    others.toSorted((a, b) => a - b),
  );
  assert.equal(buffer.size, 0);
});
