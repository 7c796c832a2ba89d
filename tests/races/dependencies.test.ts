import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { type Held, neverWait, type Race, withRace } from "./race.ts";

function complete(session: TestSql, { id, lease }: Held) {
  return session`select public.complete_job(${id}, null, ${lease})`;
}

type End = (session: TestSql, held: Held) => PromiseLike<unknown>;

function discard(session: TestSql, { id, lease }: Held) {
  return session`select queue.settle_one(${lease}, ${id}, 'discarded', '{"reason": "no"}')`;
}

/** How many of its parents a blocked job waits for, as its token says it and as its edges say it. */
async function openParents({ db }: Race, id: string): Promise<[number, number] | undefined> {
  const [row] = await db.sql<{ token: number; edges: number }[]>`
    select open_parents as token,
      (select count(*)::integer from queue.dependencies where child_id = ${id}) as edges
    from queue.waiting where id = ${id}`;
  return row && [row.token, row.edges];
}

describeOnEachServer("a child that is enqueued while its parent moves", (context) => {
  it("a parent is not claimed before the child's transaction has ended, and nobody waits", () =>
    withRace(context.db, async (race) => {
      const parent = await race.enqueue();
      await neverWait(race.bob);
      await race.ann`begin`;
      const child = await race.enqueue({ by: race.ann, parents: [parent] });

      const early = await race.claim({ by: race.bob, batch: 5 });
      await race.ann`commit`;
      const [held] = await race.claim({ by: race.bob, batch: 5 });

      assert.deepEqual(early, []);
      assert.equal(held?.id, parent);
      await complete(race.bob, held);
      assert.equal(await race.status(child), "pending");
    }));

  it("a cancellation of the parent waits for the child and cancels it too", () =>
    withRace(context.db, async (race) => {
      const parent = await race.enqueue();
      await race.ann`begin`;
      const child = await race.enqueue({ by: race.ann, parents: [parent] });

      const late = await race.untilItWaits(race.bob, race.bob`select public.cancel_job(${parent})`);
      await race.ann`commit`;

      await late.answer;
      assert.equal(await race.status(parent), "cancelled");
      assert.equal(await race.status(child), "cancelled");
    }));

  it("a child that commits just after its running parent completed is found by the sweep", () =>
    withRace(context.db, async (race) => {
      const parent = await race.hold();
      await race.ann`begin`;
      const child = await race.enqueue({ by: race.ann, parents: [parent.id] });

      await neverWait(race.bob);
      await complete(race.bob, parent);
      await race.ann`commit`;
      const missed = await race.status(child);
      await race.bob`select queue.maintain()`;

      assert.deepEqual([missed, await race.status(child)], ["blocked", "pending"]);
    }));

  it("a child that commits just after its running parent failed is cancelled by the sweep", () =>
    withRace(context.db, async (race) => {
      const parent = await race.hold();
      await race.ann`begin`;
      const child = await race.enqueue({ by: race.ann, parents: [parent.id] });
      const anyway = await race.enqueue({ by: race.ann, parents: [parent.id], runAnyway: true });

      await discard(race.bob, parent);
      await race.ann`commit`;
      await race.bob`select public.cleanup_stuck_jobs()`;

      assert.deepEqual(
        [await race.status(child), await race.status(anyway)],
        ["cancelled", "pending"],
      );
    }));

  it("a child enqueued while its parent is being claimed waits for the claim, then for the parent", () =>
    withRace(context.db, async (race) => {
      const parent = await race.enqueue();
      await race.ann`begin`;
      const [held] = await race.claim({ by: race.ann });
      assert.ok(held);

      const late = await race.untilItWaits(
        race.bob,
        race.bob<{ id: string }[]>`
          select public.enqueue_job(${race.type}, p_depends_on => array[${parent}::bigint])::text as id`,
      );
      await race.ann`commit`;
      const [row] = await late.answer;
      const child = row?.id ?? "none";

      assert.equal(await race.status(child), "blocked");
      await complete(race.bob, held);
      assert.equal(await race.status(child), "pending");
    }));

  it("a child enqueued while its parent's completion is in flight is found by the sweep", () =>
    withRace(context.db, async (race) => {
      const parent = await race.hold();
      await race.ann`begin`;
      await complete(race.ann, parent);

      await neverWait(race.bob);
      const child = await race.enqueue({ by: race.bob, parents: [parent.id] });
      await race.ann`commit`;
      const missed = await race.status(child);
      await race.bob`select queue.maintain()`;

      assert.deepEqual([missed, await race.status(child)], ["blocked", "pending"]);
    }));

  it("a parent that goes back to the queue before the child commits is waited for all the same", () =>
    withRace(context.db, async (race) => {
      const parent = await race.hold();
      await race.ann`begin`;
      const child = await race.enqueue({ by: race.ann, parents: [parent.id] });
      await race.bob`select queue.settle_one(${parent.lease}, ${parent.id}, 'released')`;
      await race.ann`commit`;
      await race.bob`select queue.maintain()`;

      assert.equal(await race.status(child), "blocked");
      const [again] = await race.claim();
      assert.equal(again?.id, parent.id);
      await complete(race.bob, again);
      assert.equal(await race.status(child), "pending");
    }));
});

describeOnEachServer("two parents that end at the same time", (context) => {
  /** The first parent's end is not committed yet when the second's comes, which must not wait for it. */
  async function endBoth(race: Race, first: End, second: End, how: "commit" | "rollback") {
    const parents = [await race.hold(), await race.hold()] as const;
    const child = await race.enqueue({ parents: parents.map(({ id }) => id) });
    await neverWait(race.bob);
    await race.ann`begin`;
    await first(race.ann, parents[0]);
    await second(race.bob, parents[1]);
    const between = await openParents(race, child);
    await race.ann.unsafe(how);
    const left = await race.status(child);
    await race.bob`select queue.maintain()`;
    assert.deepEqual([between, left], [[2, 2], "blocked"], "it is left to the sweep");
    assert.equal((await race.bob`select from queue.fanouts`).length, 0);
    return child;
  }

  it("free their child once, whichever commits last", () =>
    withRace(context.db, async (race) => {
      const child = await endBoth(race, complete, complete, "commit");

      assert.equal(await race.status(child), "pending");
      const edges = await race.bob`select from queue.dependencies where child_id = ${child}`;
      assert.equal(edges.length, 0);
    }));

  it("leave their child waiting for the one whose completion was rolled back", () =>
    withRace(context.db, async (race) => {
      const child = await endBoth(race, complete, complete, "rollback");

      assert.deepEqual(await openParents(race, child), [1, 1]);
      assert.equal(await race.status(child), "blocked");
    }));

  it("cancel their child when one completes and the other fails", () =>
    withRace(context.db, async (race) => {
      const child = await endBoth(race, complete, discard, "commit");

      assert.equal(await race.status(child), "cancelled");
      assert.deepEqual(await race.trail(child), ["cancelled>cancelled"]);
    }));

  it("cancel their child once when both fail", () =>
    withRace(context.db, async (race) => {
      const parents = [await race.hold(), await race.hold()] as const;
      const child = await race.enqueue({ parents: parents.map(({ id }) => id) });
      await neverWait(race.bob);
      await race.ann`begin`;
      await discard(race.ann, parents[0]);
      await discard(race.bob, parents[1]);
      await race.ann`commit`;
      await race.bob`select queue.maintain()`;

      assert.deepEqual(await race.trail(child), ["cancelled>cancelled"]);
      const left = await race.bob`
        select parent_id from queue.fanouts union all select parent_id from queue.dependencies where child_id = ${child}`;
      assert.deepEqual([...left], []);
    }));

  it("when the sweep runs twice at once a child is counted down once for each parent", () =>
    withRace(context.db, async (race) => {
      const ended = await race.hold();
      const open = await race.hold();
      await race.ann`begin`;
      const child = await race.enqueue({ by: race.ann, parents: [ended.id, open.id] });
      await complete(race.bob, ended);
      await race.ann`commit`;

      await Promise.all(
        [race.ann, race.bob, race.eve].map((session) => session`select queue.maintain()`),
      );

      assert.deepEqual(await openParents(race, child), [1, 1]);
      await complete(race.bob, open);
      assert.equal(await race.status(child), "pending");
    }));
});
