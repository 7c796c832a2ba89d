import assert from "node:assert/strict";
import { test } from "node:test";
import { turn } from "../../src/core/turn.ts";
import { type Offer, readOffer } from "../../src/db/claimed-jobs.ts";
import { DatabaseTime } from "../../src/worker/database-time.ts";
import type { Lane } from "../../src/worker/lane.ts";
import { takeOffer } from "../../src/worker/offers.ts";
import { fakeClock } from "../core/fake-clock.ts";

test("what a worker has no slot for goes back at once, and does not stay in the lane", async () => {
  const given: unknown[] = [];
  const attempt = { id: "11" };
  const lane = {
    name: "*",
    isOpen: false,
    push: () => given.push("pushed"),
    stir: () => undefined,
  };
  const time = new DatabaseTime();
  time.observe(0, 0);
  const parts = {
    settings: { clock: { now: () => 1 } },
    phase: { isStopping: false, workCount: 0 },
    intake: { adopt: () => [attempt] },
    executor: { fill: () => given.push("filled") },
    verdicts: { giveBack: (back: unknown) => given.push(back) },
    time,
  };
  const offer = { now: 0, expires_at: 2_000, job: ["9", "11", "task", "task"] };

  await takeOffer(offer as unknown as Offer, [lane] as unknown as Lane[], parts as never);

  assert.deepEqual(given, [attempt]);
});

/** What happens in which order when a job is brought whose handler is known to give way, or not. */
async function orderOf(givesWay: boolean): Promise<string[]> {
  const order: string[] = [];
  const lease = { id: "9", isAccepting: false };
  const lane = { name: "*", isOpen: true, concurrency: 5, running: 0 };
  const time = new DatabaseTime();
  time.observe(0, 0);
  const parts = {
    settings: { clock: fakeClock(), leaseMs: 30_000 },
    phase: { isStopping: false, workCount: 0 },
    intake: { adopt: () => [{ id: "11", lease, lane: { ...lane }, state: "buffered" }] },
    executor: { fill: () => order.push("begun"), givesWay: () => givesWay },
    verdicts: {},
    worker: () => 7,
    book: { extend: () => order.push("extended") },
    doorbell: {
      // As a driver does: it writes in a turn of its own, some steps later.
      async accept() {
        await Promise.resolve();
        await turn();
        order.push("sent");
        return true;
      },
    },
    time,
  };
  const offer = { now: 0, expires_at: 2_000, job: ["9", "11", "task", "task"] };
  const lanes = [{ ...lane, push: () => undefined, stir: () => undefined }];

  await takeOffer(offer as unknown as Offer, lanes as unknown as Lane[], parts as never);

  await turn();
  await turn();
  return order;
}

test("a job is accepted before a handler of which nothing is known can keep the process busy", async () => {
  assert.deepEqual((await orderOf(false)).slice(0, 1), ["sent"]);
  assert.ok((await orderOf(false)).includes("begun"));
});

test("a handler that is known to give way begins at once", async () => {
  assert.deepEqual(await orderOf(true), ["begun", "sent", "extended"]);
});

test("a moment of the database is never told too late", () => {
  const time = new DatabaseTime();
  assert.equal(time.toLocal(1_000), -Infinity);

  // Sent at 50 and answered at some time after that, when the database had 1,000.
  time.observe(50, 1_000);
  assert.equal(time.toLocal(1_500), 550);
  time.observe(100, 1_040);
  assert.equal(time.toLocal(1_500), 560);
});

test("only what queue.offer sends is read as an offer", () => {
  assert.equal(readOffer("w:7"), null);
  assert.equal(readOffer("{half"), null);
  assert.deepEqual(readOffer('{"now":1,"expires_at":2,"job":[]}'), {
    now: 1,
    expires_at: 2,
    job: [],
  });
});

test("an acceptance that nobody answers does not hold the lease beyond the offer's end", async () => {
  const clock = fakeClock();
  const lease = { id: "9", isAccepting: false };
  const time = new DatabaseTime();
  time.observe(0, 0);
  const lane = { name: "*", isOpen: true, concurrency: 5, running: 0, push: () => undefined };
  const parts = {
    settings: { clock, leaseMs: 3_000 },
    phase: { isStopping: false, workCount: 0 },
    intake: { adopt: () => [{ id: "11", lease, lane, state: "buffered", type: "task" }] },
    executor: { givesWay: () => true, fill: () => undefined },
    doorbell: { accept: () => new Promise(() => undefined) },
    worker: () => 1,
    time,
  };
  const offer = { now: 0, expires_at: 2_000, job: ["9", "11", "task", "task"] };

  await takeOffer(offer as unknown as Offer, [lane] as unknown as Lane[], parts as never);
  assert.equal(lease.isAccepting, true);
  clock.advance(1_000);

  assert.equal(lease.isAccepting, false);
});
