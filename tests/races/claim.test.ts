import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { neverWait, withRace } from "./race.ts";

describeOnEachServer("claims at the same time", (context) => {
  it("a claim does not wait for another that has not committed, and gets other jobs", () =>
    withRace(context.db, async (race) => {
      const first = await race.enqueue();
      const second = await race.enqueue();
      await neverWait(race.bob);
      await race.ann`begin`;

      const ofAnn = await race.claim({ by: race.ann });
      const ofBob = await race.claim({ by: race.bob, batch: 5 });
      await race.ann`commit`;

      assert.deepEqual(
        [ofAnn, ofBob].map((jobs) => jobs.map(({ id }) => id)),
        [[first], [second]],
      );
    }));

  it("neither waits nor shares when several tenants take turns", () =>
    withRace(context.db, async (race) => {
      const tenants = ["a", "b", "c", "a", "b", "c"];
      const ids: string[] = [];
      // One after the other: two that make the same new tenant at once would leave one job to be adopted by the first claim.
      for (const tenant of tenants) ids.push(await race.enqueue({ tenant }));
      await neverWait(race.bob);
      await race.ann`begin`;

      const ofAnn = await race.claim({ by: race.ann, batch: 3 });
      const ofBob = await race.claim({ by: race.bob, batch: 6 });
      await race.ann`commit`;

      assert.equal(ofAnn.length, 3);
      assert.deepEqual([...ofAnn, ...ofBob].map(({ id }) => id).sort(), ids.sort());
    }));

  it("when a claim is rolled back its jobs are there again, with the attempt", () =>
    withRace(context.db, async (race) => {
      const id = await race.enqueue();
      await race.ann`begin`;
      await race.claim({ by: race.ann });

      await race.ann`rollback`;

      const [held] = await race.claim();
      assert.equal(held?.id, id);
      const [row] = await context.db.sql`select attempts from public.job_queue where id = ${id}`;
      assert.equal(row?.["attempts"], 1);
    }));

  it("eight workers at once take each job exactly once", () =>
    withRace(context.db, async (race) => {
      await context.db.sql`
        select public.enqueue_job(${race.type}, p_tenant_id => nullif('t' || n % 4, 't0'))
        from generate_series(1, 300) as job (n)`;
      const pool = context.db.connect({ max: 8 });

      const claims = await Promise.all(
        Array.from({ length: 60 }, () => race.claim({ by: pool, batch: 7 })),
      );
      await pool.end();

      const ids = claims.flat().map(({ id }) => id);
      assert.equal(ids.length, 300);
      assert.equal(new Set(ids).size, 300);
    }));

  it("a job that becomes due in another session's claim is not waited for", () =>
    withRace(context.db, async (race) => {
      const { id, lease } = await race.hold();
      await context.db.sql`select public.fail_job(${id}, 'no', true, 0, ${lease})`;
      await neverWait(race.bob);
      await race.ann`begin`;

      const ofAnn = await race.claim({ by: race.ann });
      const ofBob = await race.claim({ by: race.bob });
      await race.ann`commit`;

      assert.deepEqual([ofAnn.map((held) => held.id), ofBob], [[id], []]);
    }));

  it("a job that was enqueued early and committed late is found by a full look, though others went before", () =>
    withRace(context.db, async (race) => {
      await race.enqueue();
      await race.ann`begin`;
      const late = await race.enqueue({ by: race.ann });
      await context.db.sql`select public.enqueue_job(${race.type}) from generate_series(1, 3)`;
      const worker = await signIn(race.bob, race.type);

      const first = await worker.advance(2, null);
      await race.ann`commit`;
      const onward = await worker.advance(1, first.mark);
      const full = await worker.advance(1, null);

      assert.equal(first.ids.includes(late), false);
      assert.equal(onward.ids.includes(late), false, "from the mark on it lies behind");
      assert.deepEqual(full.ids, [late]);
    }));

  it("callers of one name don't wait for one that has not committed", () =>
    withRace(context.db, async (race) => {
      const claim = async (session: TestSql, name: string): Promise<number> => {
        const rows = await session`select from public.get_next_job(${name}, array[${race.type}])`;
        return rows.length;
      };
      for (let n = 0; n < 6; n += 1) await race.enqueue();
      await race.ann`begin`;
      await neverWait(race.bob);

      const fresh = [await claim(race.ann, "shared"), await claim(race.bob, "shared")];
      await race.ann`commit`;
      await context.db.advance(10_000);
      await race.ann`begin`;
      const known = [await claim(race.ann, "shared"), await claim(race.bob, "shared")];
      await race.ann`commit`;

      assert.deepEqual(
        [fresh, known],
        [
          [1, 1],
          [1, 1],
        ],
      );
    }));

  it("signs of life use up no number", () =>
    withRace(context.db, async (race) => {
      const last = async (): Promise<unknown> => {
        await race.ann`select from public.get_next_job('known', array[${race.type}])`;
        const [row] = await context.db.sql`select last_value as id from queue.workers_id_seq`;
        return row?.["id"];
      };
      const before = await last();
      await context.db.advance(10_000);

      assert.deepEqual(await last(), before);
    }));
});

/** A worker that goes on from where it stopped, as the library's does. */
async function signIn(session: TestSql, type: string) {
  const [row] = await session<{ worker: number; type: number }[]>`
    select (queue.register_worker(${`marks ${type}`}, null, null, null) ->> 'worker')::integer as worker,
      queue.intern_type(${type}) as type`;
  return {
    async advance(limit: number, mark: unknown) {
      const [answer] = await session<{ ids: string[]; mark: unknown }[]>`
        select array(select json_array_elements_text(step.answer -> 'jobs' -> 'ids')) as ids,
          step.answer -> 'mark' as mark
        from (select queue.advance(
          p_worker => ${row?.worker ?? -1}, p_limit => ${limit}, p_type_ids => ${[row?.type ?? -1]}::integer[],
          p_mark => ${mark === null ? null : JSON.stringify(mark)}::text::json) as answer) as step`;
      assert.ok(answer);
      return answer;
    },
  };
}
