import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { withRace } from "./race.ts";

interface Made {
  readonly id: string;
  readonly outcome: string;
}

function enqueueWithKey(session: TestSql, type: string, key: string) {
  return session<Made[]>`
    select id::text, outcome from queue.enqueue_one(p_type => ${type}, p_idempotency_key => ${key})`;
}

function enqueueMany(session: TestSql, jobs: readonly object[]) {
  return session<Made[]>`
    select id::text, outcome from public.enqueue_jobs(${JSON.stringify(jobs)}::text::jsonb) order by ordinal`;
}

describeOnEachServer("enqueue with one idempotency key at the same time", (context) => {
  it("the second call waits and gets the job of the first", () =>
    withRace(context.db, async (race) => {
      await race.enqueue();
      await race.ann`begin`;
      const [first] = await enqueueWithKey(race.ann, race.type, "one");

      const late = await race.untilItWaits(race.bob, enqueueWithKey(race.bob, race.type, "one"));
      await race.ann`commit`;

      const [second] = await late.answer;
      assert.deepEqual({ ...second }, { id: first?.id, outcome: "existing" });
      const jobs = await context.db
        .sql`select from public.job_queue where id >= ${first?.id ?? "0"}`;
      assert.equal(jobs.length, 1);
    }));

  it("the second call makes its own job when the first is rolled back", () =>
    withRace(context.db, async (race) => {
      await race.enqueue();
      await race.ann`begin`;
      const [first] = await enqueueWithKey(race.ann, race.type, "two");

      const late = await race.untilItWaits(race.bob, enqueueWithKey(race.bob, race.type, "two"));
      await race.ann`rollback`;

      const [second] = await late.answer;
      assert.equal(second?.outcome, "created");
      assert.notEqual(second.id, first?.id);
      assert.equal(await race.status(second.id), "pending");
    }));

  it("a bulk call waits and gets the job of the first, and makes the others", () =>
    withRace(context.db, async (race) => {
      await race.enqueue();
      await race.ann`begin`;
      const [first] = await enqueueWithKey(race.ann, race.type, "three");

      const late = await race.untilItWaits(
        race.bob,
        enqueueMany(race.bob, [
          { type: race.type },
          { type: race.type, idempotency_key: "three" },
          { type: race.type, idempotency_key: "four" },
        ]),
      );
      await race.ann`commit`;

      const made = await late.answer;
      assert.deepEqual(
        made.map((job) => job.outcome),
        ["created", "existing", "created"],
      );
      assert.equal(made[1]?.id, first?.id);
    }));

  it("bulk calls that bring the same new keys in opposite orders do not deadlock", () =>
    withRace(context.db, async (race) => {
      await race.enqueue();
      const job = (key: string) => ({ type: race.type, idempotency_key: key });
      await race.eve`begin`;
      await enqueueWithKey(race.eve, race.type, "k1");

      const forth = await race.untilItWaits(
        race.ann,
        enqueueMany(race.ann, [job("k1"), job("k2")]),
      );
      const back = await race.untilItWaits(race.bob, enqueueMany(race.bob, [job("k2"), job("k1")]));
      await race.eve`rollback`;

      const [ofAnn, ofBob] = [await forth.answer, await back.answer];
      assert.deepEqual(
        ofAnn.map(({ id }) => id),
        ofBob.map(({ id }) => id).reverse(),
      );
    }));
});
