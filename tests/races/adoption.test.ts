/** Jobs that arrived while a name was being made are adopted by whoever claims next, and nobody's claim waits for it. */
import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { type Race, withRace, workerName } from "./race.ts";

async function enqueue(sql: TestSql, type: string, parents?: readonly string[]): Promise<string> {
  const [row] = await sql<{ id: string }[]>`
    select public.enqueue_job(p_type => ${type}, p_depends_on => ${parents ? [...parents] : null}::bigint[])::text as id`;
  assert.ok(row);
  return row.id;
}

/** Claims all of a type; a call that waits for a stranger fails. */
async function claimAtOnce(session: TestSql, type: string): Promise<string[]> {
  await session`set statement_timeout = '3s'`;
  const rows = await session<{ id: string }[]>`
    select id::text from public.get_next_job(${workerName(session)}, array[${type}], 100) order by id`;
  await session`reset statement_timeout`;
  return rows.map(({ id }) => id);
}

/** A job that has arrived: somebody makes its type and goes on. */
async function arrival({ ann, bob, type }: Race, parents?: readonly string[]): Promise<string> {
  await ann`begin`;
  await enqueue(ann, type);
  return enqueue(bob, type, parents);
}

async function arrivals({ db }: Race): Promise<string[]> {
  const rows = await db.sql<{ id: string }[]>`select id::text from queue.arrivals order by id`;
  return rows.map(({ id }) => id);
}

describeOnEachServer("the adoption of arrivals", (context) => {
  for (const end of ["commit", "rollback"] as const) {
    it(`passes by a job whose parent somebody holds, until that one's ${end}`, () =>
      withRace(context.db, async (race) => {
        const [known, other] = [`${race.type}-known`, `${race.type}-other`];
        const parent = await enqueue(race.db.sql, known);
        const free = await enqueue(race.db.sql, other);
        const child = await arrival(race, [parent]);
        const grandchild = await enqueue(race.bob, known, [child]);
        const beside = await enqueue(race.bob, race.type);
        await race.ann`commit`;
        await race.ann`begin`;
        await race.ann`select public.cancel_job(${parent})`;

        const claimed = await claimAtOnce(race.eve, other);
        const left = await arrivals(race);
        await race.ann.unsafe(end);
        await claimAtOnce(race.eve, other);

        assert.deepEqual(claimed, [free]);
        assert.deepEqual(left, [child, grandchild]);
        assert.equal(await race.status(beside), "pending");
        assert.deepEqual(await arrivals(race), []);
        const expected = end === "commit" ? "cancelled" : "blocked";
        assert.deepEqual(
          [await race.status(child), await race.status(grandchild)],
          [expected, expected],
        );
        await race.db
          .sql`select public.cancel_job(id) from public.job_queue where status in ('pending', 'blocked')`;
      }));
  }

  it("is not waited for where somebody claims in a transaction that stays open", () =>
    withRace(context.db, async (race) => {
      const [known, other] = [`${race.type}-known`, `${race.type}-other`];
      await enqueue(race.db.sql, known);
      const free = await enqueue(race.db.sql, other);
      await race.db.sql`delete from queue.sweeps`;
      await arrival(race);
      const stranger = race.db.connect({ max: 1 });

      await stranger`begin`;
      await claimAtOnce(stranger, known);
      const claimed = await claimAtOnce(race.eve, other);
      await race.ann`rollback`;
      await race.db.advance(1_000);
      await claimAtOnce(race.eve, other);
      const left = await arrivals(race);
      await stranger`rollback`;
      await stranger.end();

      assert.deepEqual(claimed, [free]);
      assert.deepEqual(left, []);
    }));
});
