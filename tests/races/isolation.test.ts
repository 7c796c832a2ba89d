/** What is looked at once more under a lock is not seen in an older snapshot: a stricter isolation must fail, and never pass a guard twice. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { withRace } from "./race.ts";

describeOnEachServer("in a snapshot that is older than what others did", (context) => {
  for (const level of ["repeatable read", "serializable"] as const) {
    it(`a cancelled job that somebody has run again is not run twice (${level})`, () =>
      withRace(context.db, async (race) => {
        const id = await race.enqueue();
        await race.eve`select public.cancel_job(${id})`;
        await race.ann.unsafe(`begin isolation level ${level}`);
        await race.ann`select from queue.settings`;
        await race.bob`select public.retry_job(${id})`;
        const [held] = await race.claim({ by: race.bob });

        await assert.rejects(race.ann`select public.retry_job(${id})`, { code: "40001" });
        await race.ann`rollback`;

        assert.equal(held?.id, id);
        assert.deepEqual(await race.trail(id), ["cancelled>cancelled", "redriven>pending"]);
        assert.equal((await race.db.sql`select from queue.ready where id = ${id}`).length, 0);
        await race.eve`select public.complete_job(${id})`;
      }));

    it(`the key of a job that somebody has run again is not given away (${level})`, () =>
      withRace(context.db, async (race) => {
        const id = await race.enqueue({ key: "k" });
        await race.eve`select public.cancel_job(${id})`;
        await race.ann.unsafe(`begin isolation level ${level}`);
        await race.ann`select from queue.settings`;
        await race.bob`select public.retry_job(${id})`;

        await assert.rejects(race.enqueue({ by: race.ann, key: "k" }), { code: "40001" });
        await race.ann`rollback`;

        assert.equal(await race.enqueue({ key: "k" }), id);
        await race.claim();
        await race.eve`select public.complete_job(${id})`;
      }));
  }
});
