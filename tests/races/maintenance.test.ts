import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { neverWait, type Race, withRace } from "./race.ts";

const DAY_MS = 86_400_000;

interface Upkeep {
  readonly rescued: number;
  readonly partitions_made: number;
}

function maintain(session: TestSql) {
  return session<{ did: Upkeep }[]>`select queue.maintain() as did`;
}

describeOnEachServer("maintenance from many sessions", (context) => {
  it("rescues each lost job once and never fails", () =>
    withRace(context.db, async (race) => {
      await context.db.sql`select public.enqueue_job(${race.type}) from generate_series(1, 40)`;
      await Promise.all(Array.from({ length: 40 }, () => race.claim({ seconds: 1 })));
      await context.db.advance(5000);
      const pool = context.db.connect({ max: 8 });

      const rows = await Promise.all(Array.from({ length: 24 }, () => maintain(pool)));
      await pool.end();

      const rescued = rows.reduce((sum, [row]) => sum + (row?.did.rescued ?? 0), 0);
      assert.equal(rescued, 40);
      const [lost] = await context.db
        .sql`select count(*)::integer as n from queue.runs where outcome = 'lost'`;
      assert.equal(lost?.["n"], 40);
    }));

  it("does not wait for another that has not committed", () =>
    withRace(context.db, async (race) => {
      const { id } = await race.hold({ seconds: 1 });
      await context.db.advance(5000);
      await neverWait(race.bob);
      await race.ann`begin`;
      await maintain(race.ann);

      await maintain(race.bob);
      await race.ann`commit`;

      assert.deepEqual(await race.trail(id), ["lost>pending"]);
    }));

  it("leaves what somebody else is just forgetting to him", () =>
    withRace(context.db, async (race) => {
      await race.eve`
        insert into queue.detours (scope, at, pause_ms, mark) values (1, queue.clock() - interval '1 hour', 200, '{}')`;
      await race.eve`insert into queue.passed_bells (queue_id, worker_id, number) values (9, 999, 1)`;
      await race.eve`select setval('queue.detour_mark', 1)`;
      await race.ann`begin`;
      await race.ann`delete from queue.detours`;
      await race.ann`delete from queue.passed_bells`;

      const [row] = await race.bob<
        { did: { failed: unknown[] } }[]
      >`select queue.maintain() as did`;
      await race.ann`commit`;

      assert.deepEqual(row?.did.failed, []);
    }));

  it("begins one new partition when the interval has passed, while others enqueue", () =>
    withRace(context.db, async (race) => {
      await race.enqueue();
      await maintain(race.eve);
      await context.db.advance(DAY_MS + 1000);
      const pool = context.db.connect({ max: 8 });
      const before = await lastPartition(context.db.sql);

      const work = await Promise.all(
        Array.from({ length: 200 }, (_, n) =>
          n % 10 === 0 ? maintain(pool).then(() => []) : enqueue(pool, race),
        ),
      );
      await pool.end();

      const ids = work.flat().map(({ id }) => id);
      const [stored] = await context.db.sql`
        select count(*)::integer as n from queue.jobs where id = any (${ids}::bigint[])`;
      assert.equal(new Set(ids).size, 180);
      assert.equal(stored?.["n"], 180);
      assert.equal((await lastPartition(context.db.sql)) - before, 1);
    }));
});

function enqueue(session: TestSql, { type }: Race) {
  return session<{ id: string }[]>`select public.enqueue_job(${type})::text as id`;
}

/** The partition of the next id. */
async function lastPartition(sql: TestSql): Promise<number> {
  const [row] = await sql<{ number: number }[]>`
    select part.number::integer from queue.partitions as part, queue.job_ids as ids
    where ids.last_value >= part.first_id and ids.last_value < part.end_id`;
  return row?.number ?? -1;
}
