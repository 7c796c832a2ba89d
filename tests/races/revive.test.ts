import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { neverWait, type Race, withRace } from "./race.ts";

function retry(session: TestSql, id: string) {
  return session<{ status: string }[]>`select public.retry_job(${id}) as status`;
}

function redrive(session: TestSql, { type }: Race) {
  return session<{ id: string }[]>`select id::text from public.redrive_jobs(p_type => ${type})`;
}

/** A job in the dead letters. */
async function deadJob(race: Race): Promise<string> {
  const { id, lease } = await race.hold();
  await race.bob`select public.fail_job(${id}, 'no', false, null, ${lease})`;
  return id;
}

/** A job that waits for its second attempt. */
async function scheduledJob(race: Race): Promise<string> {
  const { id, lease } = await race.hold();
  await race.bob`select public.fail_job(${id}, 'no', true, 60, ${lease})`;
  return id;
}

describeOnEachServer("jobs that are run again by several people at once", (context) => {
  it("two retries of a failed job revive it once", () =>
    withRace(context.db, async (race) => {
      const id = await deadJob(race);
      await race.ann`begin`;
      await retry(race.ann, id);

      const late = await race.untilItWaits(race.bob, retry(race.bob, id));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.status, "pending");
      assert.deepEqual(await race.trail(id), ["failed>failed", "redriven>pending"]);
    }));

  it("two retries of a cancelled job revive it once", () =>
    withRace(context.db, async (race) => {
      const id = await race.enqueue();
      await race.bob`select public.cancel_job(${id})`;
      await race.ann`begin`;
      await retry(race.ann, id);

      const late = await race.untilItWaits(race.bob, retry(race.bob, id));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.status, "pending");
      assert.deepEqual(await race.trail(id), ["cancelled>cancelled", "redriven>pending"]);
    }));

  it("two retries of a scheduled job move it once", () =>
    withRace(context.db, async (race) => {
      const id = await scheduledJob(race);
      await race.ann`begin`;
      await retry(race.ann, id);

      const late = await race.untilItWaits(race.bob, retry(race.bob, id));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.status, "pending");
      assert.deepEqual(await race.trail(id), ["failed>scheduled", "expedited>pending"]);
    }));

  it("two redrives revive a job once, and only one of them counts it", () =>
    withRace(context.db, async (race) => {
      const id = await deadJob(race);
      await race.ann`begin`;
      const first = await redrive(race.ann, race);

      const late = await race.untilItWaits(race.bob, redrive(race.bob, race));
      await race.ann`commit`;

      const second = await late.answer;
      assert.deepEqual([first.map((row) => row.id), second.map((row) => row.id)], [[id], []]);
      assert.deepEqual(await race.trail(id), ["failed>failed", "redriven>pending"]);
    }));

  it("a redrive that waits for a retry leaves the job to it", () =>
    withRace(context.db, async (race) => {
      const id = await deadJob(race);
      await race.ann`begin`;
      await retry(race.ann, id);

      const late = await race.untilItWaits(race.bob, redrive(race.bob, race));
      await race.ann`commit`;

      assert.equal((await late.answer).length, 0);
      assert.deepEqual(await race.trail(id), ["failed>failed", "redriven>pending"]);
    }));

  it("a retry that waits for a redrive leaves the job to it", () =>
    withRace(context.db, async (race) => {
      const id = await deadJob(race);
      await race.ann`begin`;
      await redrive(race.ann, race);

      const late = await race.untilItWaits(race.bob, retry(race.bob, id));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.status, "pending");
      assert.deepEqual(await race.trail(id), ["failed>failed", "redriven>pending"]);
    }));

  it("a redrive that is rolled back leaves the dead letter for the next", () =>
    withRace(context.db, async (race) => {
      const id = await deadJob(race);
      await race.ann`begin`;
      await redrive(race.ann, race);

      const late = await race.untilItWaits(race.bob, redrive(race.bob, race));
      await race.ann`rollback`;

      assert.deepEqual(
        (await late.answer).map((row) => row.id),
        [id],
      );
    }));

  it("a purge that waits for a redrive deletes nothing", () =>
    withRace(context.db, async (race) => {
      const id = await deadJob(race);
      await race.ann`begin`;
      await redrive(race.ann, race);

      const late = await race.untilItWaits(
        race.bob,
        race.bob`select public.purge_jobs(p_type => ${race.type}) as count`,
      );
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.["count"], 0);
      assert.equal(await race.status(id), "pending");
    }));

  it("a known key whose job is purged while its call waits for another key belongs to the new job", () =>
    withRace(context.db, async (race) => {
      const enqueue = (session: TestSql, ...keys: string[]) =>
        session<{ id: string }[]>`
          select made.id::text from public.enqueue_jobs(
            (select jsonb_agg(jsonb_build_object('type', ${race.type}::text, 'idempotency_key', given.key) order by given.place)
             from unnest(${keys}::text[]) with ordinality as given (key, place))) as made order by made.ordinal`;
      const [cancelled] = await enqueue(race.bob, "k1");
      await race.bob`select public.cancel_job(${cancelled?.id ?? ""})`;
      const [dead] = await enqueue(race.bob, "k2");
      const [lease] = await race.bob<{ id: string; lease_id: string }[]>`
        select id::text, lease_id::text from public.get_next_job('w', array[${race.type}])`;
      assert.equal(lease?.id, dead?.id);
      await race.bob`select public.fail_job(${dead?.id ?? ""}, 'no', false, null, ${lease?.lease_id ?? ""})`;
      await race.ann`begin`;
      await retry(race.ann, cancelled?.id ?? "");

      const late = await race.untilItWaits(race.bob, enqueue(race.bob, "k1", "k2"));
      await race.eve`select public.purge_jobs(array[${dead?.id ?? ""}]::bigint[])`;
      await race.ann`rollback`;

      const made = await late.answer;
      const again = await enqueue(race.eve, "k1", "k2");
      assert.notEqual(made[1]?.id, dead?.id);
      assert.deepEqual([...again], [...made]);
    }));

  it("a redrive and a purge of the same dead letters, found in opposite orders, do not deadlock", () =>
    withRace(context.db, async (race) => {
      const young = await deadJob(race);
      const old = await deadJob(race);
      await context.db.sql`
        update queue.dead_letters set failed_at = failed_at - interval '1 hour' where job_id = ${old}`;
      await race.eve`begin`;
      await race.eve`select from queue.dead_letters where job_id = ${young} for update`;

      const purge = await race.untilItWaits(
        race.ann,
        race.ann`select public.purge_jobs(p_type => ${race.type}) as count`,
      );
      const redriven = await race.untilItWaits(race.bob, redrive(race.bob, race));
      await race.eve`commit`;

      const [row] = await purge.answer;
      assert.equal(row?.["count"], 2);
      assert.deepEqual([...(await redriven.answer)], []);
    }));

  it("a retry of a scheduled job that is just being promoted by a claim answers pending", () =>
    withRace(context.db, async (race) => {
      const id = await scheduledJob(race);
      await context.db.advance(61_000);
      await race.ann`begin`;
      await race.ann`select queue.promote_due()`;

      const late = await race.untilItWaits(race.bob, retry(race.bob, id));
      await race.ann`commit`;

      const [row] = await late.answer;
      assert.equal(row?.status, "pending");
      assert.deepEqual(await race.trail(id), ["failed>scheduled"]);
    }));

  it("a claim passes by a job that is being revived, without waiting", () =>
    withRace(context.db, async (race) => {
      const id = await deadJob(race);
      await neverWait(race.bob);
      await race.ann`begin`;
      await retry(race.ann, id);

      const early = await race.claim({ by: race.bob });
      await race.ann`commit`;
      const [held] = await race.claim({ by: race.bob });

      assert.deepEqual([early, held?.id], [[], id]);
    }));
});
