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
  return session<{ refused: number; busy: number }[]>`
    select json_array_length(answer -> 'refused') as refused,
      case json_typeof(answer -> 'busy') when 'array' then json_array_length(answer -> 'busy') else 0 end as busy
    from queue.workers as worker, queue.advance(
      worker.id, ${done.map(({ lease }) => lease)}::bigint[], ${done.map(({ id }) => id)}::bigint[],
      ${done.map(() => 1)}::integer[], null, ${JSON.stringify(rest)}::text::jsonb) as answer
    where worker.id = (select worker_id from queue.leases where id = ${[...done, ...released][0]?.lease ?? null})`;
}

function settleAll(session: TestSql, held: readonly Held[]) {
  const items = held.map(({ id, lease }) => ({ lease, id, outcome: "failed" }));
  return session`select count(*) from queue.settle(${JSON.stringify(items)}::text::jsonb)`;
}

function extendAll(session: TestSql, held: readonly Held[], worker: string) {
  return session<{ answer: { alive: string[]; busy: string[]; cancelled: unknown[] } }[]>`
    select queue.extend_leases(worker.id, ${held.map(({ lease }) => lease)}::bigint[], 60000) as answer
    from queue.workers as worker where worker.name = ${worker}`;
}

async function holdTwo(race: Race): Promise<[Held, Held]> {
  return [await race.hold(), await race.hold()];
}

describeOnEachServer("statements that lock several rows", (context) => {
  it("a bulk completion passes by the lease that somebody else holds, and settles the others", () =>
    withRace(context.db, async (race) => {
      const held = await holdTwo(race);
      await blockLease(race.eve, held[0]);
      await neverWait(race.ann);

      const [early] = await completeAll(race.ann, held);
      await race.eve`rollback`;
      const [late] = await completeAll(race.ann, held);

      assert.deepEqual(early, { refused: 0, busy: 1 });
      assert.deepEqual(late, { refused: 0, busy: 0 });
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

  it("an extension passes by the lease that somebody else holds, and extends the others", () =>
    withRace(context.db, async (race) => {
      const [low, high] = await holdTwo(race);
      const worker = workerName(context.db.sql);
      await blockLease(race.eve, low);
      await neverWait(race.ann);

      const [row] = await extendAll(race.ann, [high, low], worker);

      assert.deepEqual([row?.answer.alive, row?.answer.busy], [[high.lease], [low.lease]]);
    }));

  it("a request to cancel that is not committed keeps its job from ending, and nothing else", () =>
    withRace(context.db, async (race) => {
      const [wanted, other] = await holdTwo(race);
      const worker = workerName(context.db.sql);
      await neverWait(race.ann);
      await race.eve`begin`;
      await race.eve`select public.cancel_job(${wanted.id})`;

      const [beside] = await extendAll(race.ann, [wanted, other], worker);
      const [early] = await advance(race.ann, [other], [wanted]);
      await race.eve`commit`;
      const [after] = await extendAll(race.ann, [wanted], worker);
      const [late] = await advance(race.ann, [], [wanted]);

      assert.deepEqual(beside?.answer.alive, [wanted.lease, other.lease]);
      assert.deepEqual(
        [early, late],
        [
          { refused: 0, busy: 1 },
          { refused: 0, busy: 0 },
        ],
      );
      assert.deepEqual(after?.answer.cancelled, [[wanted.lease, wanted.id]]);
      assert.deepEqual(await race.trail(other.id), ["completed>completed"]);
      assert.deepEqual(await race.trail(wanted.id), ["released>cancelled"]);
    }));

  it("a request to cancel reaches the worker though somebody else holds the lease", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold();
      await race.bob`select public.cancel_job(${held.id})`;
      await blockLease(race.eve, held);
      await neverWait(race.ann);

      const [row] = await extendAll(race.ann, [held], workerName(context.db.sql));

      assert.deepEqual(row?.answer.cancelled, [[held.lease, held.id]]);
    }));

  it("parents that end crosswise for two common children do not wait for each other", () =>
    withRace(context.db, async (race) => {
      const [one, two] = await holdTwo(race);
      const parents = [one.id, two.id];
      const children = [
        await race.enqueue({ parents }),
        await race.enqueue({ parents, runAnyway: true }),
      ];
      for (const session of [race.ann, race.bob]) await neverWait(session);
      await race.eve`begin`;
      await race.eve`select from queue.waiting where id = ${children[0] ?? "0"} for update`;

      await completeAll(race.ann, [one]);
      await race.bob`select queue.settle_one(${two.lease}, ${two.id}, 'discarded')`;
      const between = await Promise.all(children.map(race.status));
      await race.eve`rollback`;
      await race.bob`select queue.maintain()`;

      assert.deepEqual(between, ["blocked", "pending"]);
      assert.deepEqual(await Promise.all(children.map(race.status)), ["cancelled", "pending"]);
    }));

  it("cascades that meet from two sides do not wait for each other", () =>
    withRace(context.db, async (race) => {
      const [a, b] = [await race.enqueue(), await race.enqueue()];
      const n = await race.enqueue({ parents: [a] });
      const m = await race.enqueue({ parents: [n, b] });
      const o = await race.enqueue({ parents: [a, m] });
      for (const session of [race.ann, race.bob]) await neverWait(session);
      await race.eve`begin`;
      await race.eve`select from queue.dependencies where parent_id = ${n} and child_id = ${m} for update`;

      await race.ann`begin`;
      await race.ann`select public.cancel_job(${a})`;
      await race.bob`select public.cancel_job(${b})`;
      await race.ann`commit`;
      await race.eve`rollback`;
      await race.bob`select queue.maintain()`;

      const trails = await Promise.all([a, b, n, m, o].map(race.trail));
      assert.deepEqual(trails, Array(5).fill(["cancelled>cancelled"]));
    }));

  it("an enqueue that waits for one parent's token does not deadlock with the cancellation of another", () =>
    withRace(context.db, async (race) => {
      const parent = await race.enqueue();
      const child = await race.enqueue({ parents: [parent] });
      const [scheduled] = await race.eve<{ id: string }[]>`
        select public.enqueue_job(${race.type}, p_scheduled_at => now() + interval '1 day')::text as id`;
      assert.ok(scheduled);
      await neverWait(race.ann);
      await race.eve`begin`;
      await race.eve`select from queue.scheduled where id = ${scheduled.id} for update`;

      const late = await race.untilItWaits(
        race.bob,
        race.bob<{ id: string }[]>`
          select public.enqueue_job(
            ${race.type}, p_depends_on => ${[child, scheduled.id, parent]}::bigint[])::text as id`,
      );
      await race.ann`select public.cancel_job(${parent})`;
      await race.eve`rollback`;
      const [grandchild] = await late.answer;
      await race.ann`select queue.maintain()`;

      const ids = [parent, child, grandchild?.id ?? "none", scheduled.id];
      assert.deepEqual(await Promise.all(ids.map(race.status)), [
        ...Array(3).fill("cancelled"),
        "scheduled",
      ]);
    }));

  it("of two sweeps over the same racing edges neither waits, for the other or for a stranger", () =>
    withRace(context.db, async (race) => {
      const held = await holdTwo(race);
      await race.ann`begin`;
      const early = await race.enqueue({ by: race.ann, parents: [held[0].id] });
      const late = await race.enqueue({ by: race.ann, parents: [held[1].id] });
      await completeAll(race.bob, held);
      await race.ann`commit`;
      for (const session of [race.ann, race.bob]) await neverWait(session);
      await race.eve`begin`;
      await race.eve`select from queue.dependencies where child_id = ${early} for update`;

      await race.ann`begin`;
      await race.ann`select queue.sweep_racing()`;
      await race.bob`select queue.sweep_racing()`;
      await race.ann`commit`;
      const between = [await race.status(early), await race.status(late)];
      await race.eve`rollback`;
      await race.bob`select queue.sweep_racing()`;

      assert.deepEqual(between, ["blocked", "pending"]);
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

  it("keys that pass on and a redrive of the jobs that had them do not deadlock", () =>
    withRace(context.db, async (race) => {
      const parent = await race.hold();
      const [low, high] = [
        await race.enqueue({ parents: [parent.id], key: "c" }),
        await race.enqueue({ parents: [parent.id], key: "a" }),
      ];
      const between = await race.enqueue({ key: "b" });
      await race.eve`select public.fail_job(${parent.id}, 'no', false, null, ${parent.lease})`;
      await race.eve`select public.cancel_job(${between})`;
      await race.eve`begin`;
      await race.eve`select from queue.runs where job_id = ${between} for update`;

      const jobs = ["a", "b", "c"].map((key) => ({ type: race.type, idempotency_key: key }));
      const keys = await race.untilItWaits(
        race.ann,
        race.ann`select id::text from public.enqueue_jobs(${JSON.stringify(jobs)}::text::jsonb)`,
      );
      const back = await race.untilItWaits(
        race.bob,
        race.bob`select from public.redrive_jobs(array[${parent.id}]::bigint[], p_with_descendants => true)`,
      );
      await race.eve`rollback`;

      const made = await keys.answer;
      await back.answer;
      assert.ok(made.every(({ id }) => ![low, high, between].includes(String(id))));
      assert.deepEqual([await race.status(low), await race.status(high)], ["blocked", "blocked"]);
    }));
});
