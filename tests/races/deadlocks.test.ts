import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { type Held, neverWait, type Race, withRace, workerName } from "./race.ts";

/** Holds a lease's row, so that others line up behind it in an order the test decides. */
async function blockLease(session: TestSql, { lease }: Held): Promise<void> {
  await session`begin`;
  await session`select from queue.leases where id = ${lease} for update`;
}

function completeAll(session: TestSql, held: readonly Held[]) {
  return advance(session, held, []);
}

/** The fused step: `done` completed, `released` given back. */
function advance(session: TestSql, done: readonly Held[], released: readonly Held[]) {
  const rest = released.map(({ id, lease }) => ({ lease, id, outcome: "released" }));
  return session<{ refused: number }[]>`
    select json_array_length(queue.advance(
      1, ${done.map(({ lease }) => lease)}::bigint[], ${done.map(({ id }) => id)}::bigint[],
      ${done.map(() => 1)}::integer[], null, ${JSON.stringify(rest)}::text::jsonb) -> 'refused') as refused`;
}

function settleAll(session: TestSql, held: readonly Held[]) {
  const items = held.map(({ id, lease }) => ({ lease, id, outcome: "failed" }));
  return session`select count(*) from queue.settle(${JSON.stringify(items)}::text::jsonb)`;
}

function extendAll(session: TestSql, held: readonly Held[], worker: string) {
  return session`
    select queue.extend_leases(worker.id, ${held.map(({ lease }) => lease)}::bigint[], 60000)
    from queue.workers as worker where worker.name = ${worker}`;
}

async function holdTwo(race: Race): Promise<[Held, Held]> {
  return [await race.hold(), await race.hold()];
}

describeOnEachServer("statements that lock several rows", (context) => {
  it("bulk completions in opposite orders do not deadlock", () =>
    withRace(context.db, async (race) => {
      const held = await holdTwo(race);
      await blockLease(race.eve, held[0]);

      const forth = await race.untilItWaits(race.ann, completeAll(race.ann, held));
      const back = await race.untilItWaits(race.bob, completeAll(race.bob, held.toReversed()));
      await race.eve`rollback`;

      await Promise.all([forth.answer, back.answer]);
      assert.deepEqual(await race.trail(held[0].id), ["completed>completed"]);
      assert.deepEqual(await race.trail(held[1].id), ["completed>completed"]);
    }));

  it("bulk failures in opposite orders do not deadlock", () =>
    withRace(context.db, async (race) => {
      const held = await holdTwo(race);
      await blockLease(race.eve, held[0]);

      const forth = await race.untilItWaits(race.ann, settleAll(race.ann, held));
      const back = await race.untilItWaits(race.bob, settleAll(race.bob, held.toReversed()));
      await race.eve`rollback`;

      await Promise.all([forth.answer, back.answer]);
      assert.deepEqual(await race.trail(held[1].id), ["failed>scheduled"]);
    }));

  it("extending leases in opposite orders does not deadlock", () =>
    withRace(context.db, async (race) => {
      const held = await holdTwo(race);
      const worker = workerName(context.db.sql);
      await blockLease(race.eve, held[0]);

      const forth = await race.untilItWaits(race.ann, extendAll(race.ann, held, worker));
      const back = await race.untilItWaits(
        race.bob,
        extendAll(race.bob, held.toReversed(), worker),
      );
      await race.eve`rollback`;

      await Promise.all([forth.answer, back.answer]);
    }));

  it("a worker that settles two leases crosswise does not deadlock with its own heartbeat", () =>
    withRace(context.db, async (race) => {
      const [low, high] = await holdTwo(race);
      const worker = workerName(context.db.sql);
      await blockLease(race.eve, low);

      const heartbeat = await race.untilItWaits(race.ann, extendAll(race.ann, [low, high], worker));
      const step = await race.untilItWaits(race.bob, advance(race.bob, [high], [low]));
      await race.eve`rollback`;

      await heartbeat.answer;
      const [row] = await step.answer;
      assert.equal(row?.refused, 0);
    }));

  it("parents that end crosswise for two common children do not deadlock", () =>
    withRace(context.db, async (race) => {
      const [one, two] = await holdTwo(race);
      const parents = [one.id, two.id];
      const children = [
        await race.enqueue({ parents }),
        await race.enqueue({ parents, runAnyway: true }),
      ];
      await race.eve`begin`;
      await race.eve`select from queue.waiting where id = ${children[0] ?? "0"} for update`;

      const completion = await race.untilItWaits(race.ann, completeAll(race.ann, [one]));
      const failure = await race.untilItWaits(
        race.bob,
        race.bob`select queue.settle_one(${two.lease}, ${two.id}, 'discarded')`,
      );
      await race.eve`rollback`;

      await Promise.all([completion.answer, failure.answer]);
      assert.deepEqual(await Promise.all(children.map(race.status)), ["cancelled", "pending"]);
    }));

  it("of two sweeps over the same racing edges one goes on and neither waits for the other", () =>
    withRace(context.db, async (race) => {
      const held = await holdTwo(race);
      await race.ann`begin`;
      const early = await race.enqueue({ by: race.ann, parents: [held[0].id] });
      const late = await race.enqueue({ by: race.ann, parents: [held[1].id] });
      await completeAll(race.bob, held);
      await race.ann`commit`;
      await race.eve`begin`;
      await race.eve`select from queue.dependencies where child_id = ${early} for update`;

      const first = await race.untilItWaits(race.ann, race.ann`select queue.sweep_racing()`);
      await neverWait(race.bob);
      await race.bob`select queue.sweep_racing()`;
      await race.eve`rollback`;

      await first.answer;
      assert.deepEqual([await race.status(early), await race.status(late)], ["pending", "pending"]);
    }));

  it("ninety bulk failures of overlapping jobs in opposite orders end without one deadlock", () =>
    withRace(context.db, async (race) => {
      const sessions = [race.ann, race.bob, race.eve];
      await context.db.sql`select public.enqueue_job(${race.type}) from generate_series(1, 60)`;
      const held = await Promise.all(Array.from({ length: 60 }, () => race.claim()));
      const leases = held.flat();

      const refused = await Promise.all(
        Array.from({ length: 90 }, (_, turn) => {
          const session = sessions[turn % sessions.length] ?? race.ann;
          const some = leases.filter((_one, index) => (index * 7 + turn) % 3 > 0);
          return settleAll(session, turn % 2 === 0 ? some : some.toReversed());
        }),
      );

      assert.equal(refused.length, 90);
    }));
});
