import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClaimedRow } from "../../src/db/claimed-jobs.ts";
import { Attempt } from "../../src/worker/attempt.ts";
import { Lane } from "../../src/worker/lane.ts";
import { type Lease, LeaseBook } from "../../src/worker/lease-book.ts";
import { Settlements, sizeOf } from "../../src/worker/settlements.ts";
import { fakeClock } from "../core/fake-clock.ts";

const DELAY_MS = 5;

function rig() {
  const clock = fakeClock();
  const book = new LeaseBook();
  const settings = {
    name: "*",
    concurrency: 10,
    maxPrefetch: 0,
    batchSize: 1,
    horizonMs: 500,
  };
  const lane = new Lane(
    settings,
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
    clock,
  );
  const settlements = new Settlements(clock, DELAY_MS);
  let nextLease = 0;
  return {
    clock,
    lane,
    settlements,
    lease(size: number): Lease {
      nextLease += 1;
      const lease = book.open(String(nextLease), Infinity);
      for (let n = 0; n < size; n += 1) {
        const row = [
          lease.id,
          `${lease.id}${n}`,
          "t",
          "q",
          "normal",
          {},
          null,
          1,
          3,
          0,
          null,
          null,
        ];
        lease.attempts.push(new Attempt(row as never as ClaimedRow, lease, lane, {} as never, 0));
      }
      lease.unsettled = size;
      return lease;
    },
    complete(lease: Lease, from: number, to: number): void {
      for (const attempt of lease.attempts.slice(from, to)) settlements.complete(attempt);
    },
  };
}

test("a lease whose jobs all completed is settled as one, as soon as others would be", () => {
  const { settlements, lease, complete, clock } = rig();
  const large = lease(40);
  complete(large, 0, 39);
  assert.equal(settlements.dueAt, clock.now() + DELAY_MS * 5, "held back for the last");

  complete(large, 39, 40);

  assert.equal(settlements.dueAt, clock.now() + DELAY_MS);
  const batch = settlements.take(false);
  assert.deepEqual([batch.whole, batch.done], [[large], []]);
  assert.equal(sizeOf(batch), 40);
  assert.deepEqual([settlements.size, settlements.pending, settlements.dueAt], [0, 40, Infinity]);
});

test("jobs of a small lease wait for nobody", () => {
  const { settlements, lease, complete, clock } = rig();
  const small = lease(3);
  complete(small, 0, 1);

  assert.equal(settlements.dueAt, clock.now() + DELAY_MS);
  assert.deepEqual(settlements.take(false).done, small.attempts.slice(0, 1));
});

test("what is held back is not sent with others, and is sent when its time is over", () => {
  const { settlements, lease, complete, clock } = rig();
  const large = lease(40);
  const small = lease(2);
  complete(large, 0, 10);
  complete(small, 0, 2);

  assert.deepEqual(settlements.take(false).done, small.attempts);
  assert.equal(settlements.size, 10);
  clock.advance(DELAY_MS * 5);
  assert.ok(settlements.dueAt <= clock.now());
  assert.deepEqual(settlements.take(false).done, large.attempts.slice(0, 10));

  complete(large, 10, 40);
  assert.equal(settlements.take(false).done.length, 30, "the rest of it is not held back again");
});

test("a lease of one job is settled as one", () => {
  const { settlements, lease, complete } = rig();
  const single = lease(1);
  complete(single, 0, 1);

  assert.deepEqual(settlements.take(false), { whole: [single], done: [], rest: [] });
});

test("a job that ends otherwise takes its lease apart", () => {
  const { settlements, lease, complete } = rig();
  const large = lease(40);
  complete(large, 0, 20);

  settlements.add(large.attempts[20] as Attempt, "failed", {});

  const batch = settlements.take(false);
  assert.deepEqual([batch.whole.length, batch.done.length, batch.rest.length], [0, 20, 1]);
});

test("a batch without an answer is sent again job by job: nobody knows what arrived", () => {
  const { settlements, lease, complete, lane } = rig();
  const large = lease(40);
  complete(large, 0, 40);
  const batch = settlements.take(false);

  settlements.putBack(batch, lane);

  assert.deepEqual([settlements.size, settlements.pending], [40, 40]);
  const again = settlements.take(false);
  assert.deepEqual([again.whole.length, again.done.length], [0, 40]);
  assert.ok(again.done.every(({ isUncertain }) => isUncertain));
});

test("at the end everything is sent, held back or not", () => {
  const { settlements, lease, complete } = rig();
  complete(lease(40), 0, 39);

  assert.equal(sizeOf(settlements.take(true)), 39);
  assert.equal(settlements.size, 0);
});

test("a full batch is due at once, and a call takes no more than fits", () => {
  const { settlements, lease, complete } = rig();
  for (let n = 0; n < 16; n += 1) complete(lease(500), 0, 500);
  assert.equal(settlements.dueAt, 0);

  assert.equal(sizeOf(settlements.take(false)), 5_000);
  assert.equal(settlements.dueAt, 0);
  assert.equal(sizeOf(settlements.take(false)), 3_000);
  assert.equal(settlements.size, 0);
});

test("while an end is told alone the next call is for all others", () => {
  const { settlements, lane, lease, complete, clock } = rig();
  const slow = lease(2);
  complete(slow, 0, 2);
  settlements.setApart(settlements.take(false), lane);
  clock.advance(60_000);

  const first = settlements.take(false);
  assert.deepEqual([first.isAlone, first.done], [true, slow.attempts.slice(0, 1)]);
  assert.equal(settlements.dueAt, Infinity);
  const other = lease(2);
  complete(other, 0, 2);
  const second = settlements.take(false);
  assert.deepEqual([second.isAlone, second.done], [undefined, other.attempts]);
  settlements.confirm(1);
  settlements.aloneEnded();

  assert.ok(settlements.dueAt <= clock.now());
  const third = settlements.take(false);
  assert.deepEqual([third.isAlone, third.done], [true, slow.attempts.slice(1)]);
});
