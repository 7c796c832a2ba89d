import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { neverWait, type Race, withRace } from "./race.ts";

function cancel({ bob }: Race, id: string) {
  return bob<{ status: string }[]>`select public.cancel_job(${id}, 'not wanted') as status`;
}

async function isCancelWanted({ db }: Race, id: string): Promise<boolean> {
  const rows = await db.sql`select from queue.cancellations where job_id = ${id}`;
  return rows.length > 0;
}

describeOnEachServer("cancel_job beside others", (context) => {
  it("waits for a claim in flight, then asks the new worker to stop", () =>
    withRace(context.db, async (race) => {
      const id = await race.enqueue();
      await race.ann`begin`;
      await race.claim({ by: race.ann });

      const late = await race.untilItWaits(race.bob, cancel(race, id));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.status, "processing");
      assert.equal(await isCancelWanted(race, id), true);
    }));

  it("cancels at once when the claim in flight is rolled back", () =>
    withRace(context.db, async (race) => {
      const id = await race.enqueue();
      await race.ann`begin`;
      await race.claim({ by: race.ann });

      const late = await race.untilItWaits(race.bob, cancel(race, id));
      await race.ann`rollback`;

      const [row] = await late.answer;
      assert.equal(row?.status, "cancelled");
    }));

  it("a claim passes by a job that is being cancelled, without waiting", () =>
    withRace(context.db, async (race) => {
      const id = await race.enqueue();
      await neverWait(race.ann);
      await race.bob`begin`;
      await cancel(race, id);

      const held = await race.claim({ by: race.ann });
      await race.bob`commit`;

      assert.deepEqual(held, []);
      assert.equal(await race.status(id), "cancelled");
    }));

  it("waits for a completion in flight and leaves the job completed", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold();
      await race.ann`begin`;
      await race.ann`select public.complete_job(${held.id}, null, ${held.lease})`;

      const late = await race.untilItWaits(race.bob, cancel(race, held.id));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.status, "completed");
      assert.equal(await isCancelWanted(race, held.id), false);
    }));

  it("a completion that waits for the request still completes, and the request is forgotten", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold();
      await race.bob`begin`;
      await cancel(race, held.id);

      const late = await race.untilItWaits(
        race.ann,
        race.ann`select public.complete_job(${held.id}, null, ${held.lease}) as done`,
      );
      await race.bob`commit`;

      const [row] = await late.answer;
      assert.equal(row?.["done"], true);
      assert.equal(await race.status(held.id), "completed");
      assert.equal(await isCancelWanted(race, held.id), false);
    }));

  it("a failure that waits for the request is cancelled instead of tried again", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold();
      await race.bob`begin`;
      await cancel(race, held.id);

      const late = await race.untilItWaits(
        race.ann,
        race.ann`select public.fail_job(${held.id}, 'no', true, null, ${held.lease}) as status`,
      );
      await race.bob`commit`;

      const [row] = await late.answer;
      assert.equal(row?.["status"], "cancelled");
    }));

  const BACK = [
    { name: "a failure that will be tried again", sql: "failed" },
    { name: "a snooze", sql: "snoozed" },
    { name: "a release", sql: "released" },
  ];
  for (const { name, sql } of BACK) {
    it(`cancels a job that ${name} in flight takes from its worker`, () =>
      withRace(context.db, async (race) => {
        const held = await race.hold();
        await race.ann`begin`;
        await race.ann`select queue.settle_one(${held.lease}, ${held.id}, ${sql}, '{"delay_ms": 60000}')`;

        const late = await race.untilItWaits(race.bob, cancel(race, held.id));
        await race.ann`commit`;

        const [row] = await late.answer;
        assert.equal(row?.status, "cancelled");
        assert.equal(await race.status(held.id), "cancelled");
      }));
  }

  it("cancels a job that a rescue in flight takes from its worker", () =>
    withRace(context.db, async (race) => {
      const held = await race.hold({ seconds: 1 });
      await context.db.advance(5000);
      await race.ann`begin`;
      await race.ann`select public.cleanup_stuck_jobs()`;

      const late = await race.untilItWaits(race.bob, cancel(race, held.id));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.status, "cancelled");
    }));

  it("of two calls at once one cancels and both answer cancelled", () =>
    withRace(context.db, async (race) => {
      const id = await race.enqueue();
      await race.ann`begin`;
      await race.ann`select public.cancel_job(${id})`;

      const late = await race.untilItWaits(race.bob, cancel(race, id));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.status, "cancelled");
      assert.deepEqual(await race.trail(id), ["cancelled>cancelled"]);
    }));
});
