import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { neverWait, type Race, withRace, workerName } from "./race.ts";

const LATE = 5000;

/** Every way a worker can write, and what it answers once the lease is lost. */
const WRITES = [
  { name: "complete_job", lost: false, write: complete },
  { name: "fail_job", lost: null, write: fail },
  ...(["completed", "failed", "snoozed", "released", "discarded", "cancelled"] as const).map(
    (outcome) => ({
      name: `settle_one as ${outcome}`,
      lost: null,
      write: ({ bob }: Race, { id, lease }: { id: string; lease: string }) =>
        bob`select queue.settle_one(${lease}, ${id}, ${outcome}, '{"delay_ms": 5}') as answer`,
    }),
  ),
  // These two wait for nobody.
  { name: "extend_leases", lost: "[]", waits: false, write: extend },
  { name: "report_progress", lost: false, waits: false, write: report },
];

function complete({ bob }: Race, { id, lease }: { id: string; lease: string }) {
  return bob`select public.complete_job(${id}, null, ${lease}) as answer`;
}

function fail({ bob }: Race, { id, lease }: { id: string; lease: string }) {
  return bob`select public.fail_job(${id}, 'no', true, 5, ${lease}) as answer`;
}

function extend({ bob, db }: Race, { lease }: { lease: string }) {
  return bob`
    select queue.extend_leases(worker.id, array[${lease}::bigint], 60000) ->> 'alive' as answer
    from queue.workers as worker where worker.name = ${workerName(db.sql)}`;
}

function report({ bob }: Race, { id, lease }: { id: string; lease: string }) {
  return bob`select public.report_progress(${id}, 50, null, null, ${lease}) as answer`;
}

describeOnEachServer("the end of an attempt beside the rescuer", (context) => {
  for (const { name, lost, waits = true, write } of WRITES) {
    if (waits)
      it(`${name} waits for a rescue that has not committed, and is refused after it`, () =>
        withRace(context.db, async (race) => {
          const held = await race.hold({ seconds: 1 });
          await context.db.advance(LATE);
          await race.ann`begin`;
          await race.ann`select public.cleanup_stuck_jobs()`;

          const late = await race.untilItWaits(race.bob, write(race, held));
          await race.ann`commit`;

          const [row] = await late.answer;
          assert.equal(row?.["answer"], lost);
          assert.deepEqual(await race.trail(held.id), ["lost>pending"]);
          assert.equal(await race.status(held.id), "pending");
        }));

    it(`${name} of a lease that was rescued and claimed again is refused`, () =>
      withRace(context.db, async (race) => {
        const held = await race.hold({ seconds: 1 });
        await context.db.advance(LATE);
        await context.db.sql`select public.cleanup_stuck_jobs()`;
        const [again] = await race.claim();

        const [row] = await write(race, held);

        assert.equal(again?.id, held.id);
        assert.equal(row?.["answer"], lost);
        assert.deepEqual(await race.trail(held.id), ["lost>pending"]);
        assert.equal(await race.status(held.id), "processing");
      }));
  }

  it("extend_leases beside a rescue that has not committed keeps nobody waiting, and extends nothing", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold({ seconds: 1 });
      await context.db.advance(LATE);
      await neverWait(race.bob);
      await race.ann`begin`;
      await race.ann`select public.cleanup_stuck_jobs()`;

      const [beside] = await race.bob`
        select answer -> 'alive' as alive, answer -> 'busy' as busy
        from queue.workers as worker, queue.extend_leases(worker.id, array[${held.lease}::bigint], 60000) as answer
        where worker.name = ${workerName(context.db.sql)}`;
      await race.ann`commit`;
      const [after] = await extend(race, held);

      assert.deepEqual(beside, { alive: [], busy: [held.lease] });
      assert.deepEqual(after, { answer: "[]" });
      assert.deepEqual(await race.trail(held.id), ["lost>pending"]);
    }));

  it("report_progress beside a rescue that has not committed writes nothing", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold({ seconds: 1 });
      await context.db.advance(LATE);
      await race.ann`begin`;
      await race.ann`select public.cleanup_stuck_jobs()`;

      await report(race, held);
      await race.ann`commit`;

      assert.equal(
        (await race.bob`select from queue.progress where job_id = ${held.id}`).length,
        0,
      );
    }));

  it("the rescuer passes by a job that is being completed, without waiting", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold({ seconds: 1 });
      await context.db.advance(LATE);
      await neverWait(race.eve);
      await race.bob`begin`;
      await complete(race, held);

      await race.eve`select public.cleanup_stuck_jobs()`;
      await race.bob`commit`;
      await race.eve`select public.cleanup_stuck_jobs()`;

      assert.deepEqual(await race.trail(held.id), ["completed>completed"]);
    }));

  it("the rescuer passes by a lease that is being extended, without waiting", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold({ seconds: 1 });
      await context.db.advance(LATE);
      await neverWait(race.eve);
      await race.bob`begin`;
      await extend(race, held);

      await race.eve`select public.cleanup_stuck_jobs()`;
      await race.bob`commit`;
      await race.eve`select public.cleanup_stuck_jobs()`;

      assert.deepEqual(await race.trail(held.id), []);
      assert.equal(await race.status(held.id), "processing");
    }));

  it("two rescuers take each lost job back once, and do not wait for each other", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold({ seconds: 1 });
      await context.db.advance(LATE);
      await neverWait(race.bob);
      await race.ann`begin`;

      await race.ann`select public.cleanup_stuck_jobs()`;
      await race.bob`select public.cleanup_stuck_jobs()`;
      await race.ann`commit`;

      assert.deepEqual(await race.trail(held.id), ["lost>pending"]);
    }));

  it("of two ends of one attempt the first stands", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold();
      await race.ann`begin`;
      await race.ann`select public.complete_job(${held.id}, null, ${held.lease})`;

      const late = await race.untilItWaits(race.bob, fail(race, held));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.["answer"], null);
      assert.deepEqual(await race.trail(held.id), ["completed>completed"]);
    }));

  it("when the first end is rolled back the second stands", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold();
      await race.ann`begin`;
      await race.ann`select public.complete_job(${held.id}, null, ${held.lease})`;

      const late = await race.untilItWaits(race.bob, fail(race, held));
      await race.ann`rollback`;

      const [row] = await late.answer;
      assert.equal(row?.["answer"], "scheduled");
      assert.deepEqual(await race.trail(held.id), ["failed>scheduled"]);
    }));

  it("a bulk completion of a lease that was rescued and claimed again is refused", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold({ seconds: 1 });
      await context.db.advance(LATE);
      await context.db.sql`select public.cleanup_stuck_jobs()`;
      await race.claim();

      const [row] = await race.bob<{ refused: number }[]>`
        select json_array_length(queue.advance(
          1, array[${held.lease}::bigint], array[${held.id}::bigint], array[1], null) -> 'refused') as refused`;

      assert.equal(row?.refused, 1);
      assert.equal(await race.status(held.id), "processing");
    }));

  it("two bulk completions of the same jobs complete each once, and neither waits for the other", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold();
      const done = (session: Race["ann"]) => session<{ refused: unknown; busy: unknown }[]>`
        select answer -> 'refused' as refused, answer -> 'busy' as busy
        from queue.workers as worker, queue.advance(
          worker.id, array[${held.lease}::bigint], array[${held.id}::bigint], array[1], null) as answer
        where worker.name = ${workerName(context.db.sql)}`;
      await neverWait(race.bob);
      await race.ann`begin`;
      await done(race.ann);

      const [early] = await done(race.bob);
      await race.ann`commit`;
      const [late] = await done(race.bob);

      assert.deepEqual(early, { refused: [], busy: [[held.lease, held.id]] });
      assert.deepEqual(late, { refused: [], busy: null }, "it stands already as it wanted");
      assert.deepEqual(await race.trail(held.id), ["completed>completed"]);
    }));
});
