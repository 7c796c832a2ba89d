import assert from "node:assert/strict";
import { test } from "node:test";
import { Attempt } from "../../src/worker/attempt.ts";
import { Lane, type LaneSettings } from "../../src/worker/lane.ts";
import { fakeClock } from "../core/fake-clock.ts";

const SETTINGS: LaneSettings = {
  name: "*",
  concurrency: 10,
  maxPrefetch: 1_000,
  batchSize: 1,
  horizonMs: 500,
};

function makeLane(settings: Partial<LaneSettings> = {}): Lane {
  return new Lane(
    { ...SETTINGS, ...settings },
    {
      scope: {
        queueIds: null,
        exceptQueueIds: null,
        typeIds: "{1}",
        tenantId: null,
        perTenant: null,
      },
      fitting: undefined,
    },
    fakeClock(),
  );
}

/** As if a handler had run for so long. */
function ran(lane: Lane, ms: number, times = 1): void {
  for (let time = 0; time < times; time += 1) {
    lane.running += 1;
    lane.freed(0, ms);
  }
}

function push(
  lane: Lane,
  types: readonly string[],
  { priority = "normal", chars = 100 } = {},
): void {
  for (const [index, type] of types.entries()) {
    const row = ["1", String(index), type, "q", priority, null, null, 1, 3, 0, null, null] as const;
    const lease = {
      id: "1",
      deadline: 0,
      extendedTo: 0,
      attempts: [],
      unsettled: 1,
      completed: 0,
      isAccepting: false,
      isLost: false,
      isWhole: true,
    };
    const attempt = new Attempt(row, lease, lane, {} as never, 0);
    attempt.chars = chars;
    lane.push(attempt);
  }
}

test("a lane whose claim under way may fill all slots is open to a job that is brought, until a slot is missing", () => {
  const lane = makeLane({ concurrency: 1 });
  lane.claiming = 1;
  assert.deepEqual([lane.room, lane.isOpen], [0, true]);

  lane.running = 1;
  assert.equal(lane.isOpen, false);

  lane.running = 0;
  push(lane, ["first in the line"]);
  assert.equal(lane.isOpen, false);
});

test("a lane that knows nothing of its handlers claims what can run at once, and no more", () => {
  assert.equal(makeLane().claimLimit, 10);
});

/** A lane that has learned how large its jobs are, claim by claim. */
function grown(lane: Lane, chars = 100): Lane {
  for (const count of [10, 40, 160, 640]) lane.claimed(count, count * chars);
  return lane;
}

test("quick handlers let a lane fetch ahead, in halves of its buffer", () => {
  const lane = makeLane();
  ran(lane, 0.1, 10);
  grown(lane);

  assert.equal(lane.room, 1_010);
  assert.equal(lane.claimLimit, 500);
});

test("slow handlers don't: what is fetched shall get a slot within the horizon", () => {
  const lane = makeLane();
  ran(lane, 200);
  grown(lane);
  assert.equal(lane.room, 30, "two rounds of all slots fit into half a second");

  ran(lane, 60_000, 100);
  grown(lane);
  assert.equal(lane.room, 10);
});

test("large payloads bound what is claimed and what is held, however many slots there are", () => {
  const lane = makeLane({ concurrency: 1_000 });
  assert.equal(lane.claimLimit, 16, "the first claim is small");

  lane.claimed(16, 16 * 1024 * 1024);
  assert.equal(lane.claimLimit, 16);
  assert.equal(lane.room, 128);
});

test("claims grow step by step, so that large payloads show before they hurt", () => {
  const lane = makeLane({ concurrency: 1_000 });
  const limits = [16, 64, 256].map((expected) => {
    const limit = lane.claimLimit;
    lane.claimed(expected, expected * 100);
    return limit;
  });

  assert.deepEqual(limits, [16, 64, 256]);
});

test("after a claim that failed the next one is smaller, in case its size was the fault", () => {
  const lane = makeLane({ concurrency: 1_000 });
  lane.claimFailed(16);
  assert.equal(lane.claimLimit, 4);
  lane.claimFailed(4);
  assert.equal(lane.claimLimit, 1);
  lane.claimFailed(1);
  assert.equal(lane.claimLimit, 1);
});

test("prefetch 0 claims only what has a slot", () => {
  const lane = makeLane({ maxPrefetch: 0 });
  ran(lane, 0.01, 100);
  grown(lane);

  assert.equal(lane.claimLimit, 10);
});

test("a lane with batch handlers claims a batch for each slot", () => {
  assert.equal(grown(makeLane({ batchSize: 50, concurrency: 2 })).claimLimit, 100);
});

test("a lane stalls when jobs lie in its buffer and no slot came free within the horizon", () => {
  const lane = makeLane({ concurrency: 1 });
  ran(lane, 0.01);
  lane.claimed(4, 400);
  push(lane, ["a", "a"]);
  lane.running = 1;

  assert.equal(lane.takeExcess(499).length, 0);
  assert.equal(lane.takeExcess(500).length, 2);
  assert.equal(lane.claimLimit, 0, "it fetches nothing ahead");
  assert.equal(lane.lookAt, Infinity, "an empty buffer is no stall");
});

test("after a stall nothing is fetched ahead until a slot has come free", () => {
  const lane = grown(makeLane({ concurrency: 1 }));
  ran(lane, 0.01, 1);
  grown(lane);
  push(lane, ["a"]);
  lane.running = 1;
  assert.equal(lane.takeExcess(500).length, 1);
  assert.equal(lane.isHungry, false);

  lane.freed(600, 0.01);
  assert.equal(lane.isHungry, true);
});

test("once handlers take longer, the buffer is cut down to what they can do within the horizon", () => {
  const lane = grown(makeLane({ concurrency: 1 }));
  for (let ms = 1; ms <= 400; ms += 1) {
    lane.running = 1;
    lane.freed(ms, 1);
  }
  grown(lane);
  push(lane, Array(480).fill("a"));
  lane.running = 1;
  assert.equal(lane.takeExcess(401).length, 0, "half a second of work");

  for (let ms = 500; ms <= 1_000; ms += 100) {
    lane.running = 1;
    lane.freed(ms, 100);
    lane.running = 1;
    lane.takeExcess(ms);
  }
  assert.equal(lane.buffered, 5);
  assert.deepEqual(
    [lane.shift()?.id, lane.shift()?.id],
    ["0", "1"],
    "those that would have come last were given back",
  );
});

test("a handler that takes its time now and then does not empty the buffer", () => {
  const lane = grown(makeLane({ concurrency: 10 }));
  for (let at = 1; at <= 1_000; at += 1) {
    lane.running = 10;
    lane.freed(at, at % 100 === 0 ? 100 : 1);
  }
  grown(lane);
  push(lane, Array(1_000).fill("a"));
  lane.running = 10;
  assert.equal(lane.takeExcess(1_001).length, 0);
});

test("more than may be held of large jobs is given back", () => {
  const lane = grown(makeLane({ concurrency: 1 }));
  ran(lane, 0.01, 100);
  grown(lane);
  lane.running = 1;
  push(lane, Array(300).fill("a"), { chars: 1024 * 1024 });

  assert.equal(lane.takeExcess(1).length, 300 - 128);
});

test("the more urgent leave the buffer first, and the least urgent are given back first", () => {
  const lane = makeLane({ concurrency: 1 });
  push(lane, ["a", "b"], { priority: "low" });
  push(lane, ["c"], { priority: "high" });
  push(lane, ["d"], { priority: "critical" });
  push(lane, ["e"], { priority: "low" });
  push(lane, ["f"], { priority: "high" });

  assert.deepEqual(
    [1, 2, 3, 4, 5].map(() => lane.shift()?.type),
    ["d", "c", "f", "a", "b"],
  );
});

test("more urgent jobs are looked for while less urgent ones fill the buffer", () => {
  const lane = makeLane({ concurrency: 1 });
  push(lane, ["a"], { priority: "high" });
  push(lane, ["b"], { priority: "low" });
  assert.equal(lane.wantsRanks, 0, "a slot is free");
  lane.running = 1;
  assert.equal(lane.wantsRanks, 3, "all that is more urgent than low");
  lane.claiming = 1;
  assert.equal(lane.wantsRanks, 0, "a claim is under way");
  lane.claiming = 0;
  lane.takeAll();
  push(lane, ["c"], { priority: "critical" });
  assert.equal(lane.wantsRanks, 0, "nothing is more urgent");
});

test("jobs leave the buffer in the order they came; those of one type can be taken out together", () => {
  const lane = makeLane();
  push(lane, ["a", "b", "a", "c", "a"]);

  assert.equal(lane.shift()?.id, "0");
  assert.deepEqual(
    lane.shiftSame("a", 1).map((attempt) => attempt.id),
    ["2"],
  );
  assert.deepEqual(
    [lane.shift()?.id, lane.shift()?.id, lane.shift()?.id, lane.shift()?.id],
    ["1", "3", "4", undefined],
  );
  assert.equal(lane.buffered, 0);
});

test("what a claim under way may bring counts as taken", () => {
  const lane = makeLane();
  ran(lane, 0.1, 10);
  grown(lane);

  lane.claiming = 500;

  assert.equal(lane.room, 510);
  assert.equal(lane.claimLimit, 500);
});

test("a second claim may go out beside the first only while claims come back full", () => {
  const lane = makeLane();
  assert.equal(lane.canClaim, true);

  lane.claiming = 10;
  assert.equal(lane.canClaim, false);
  lane.isFlowing = true;
  assert.equal(lane.canClaim, true);
  lane.stir();
  assert.equal(lane.canClaim, false);
});
