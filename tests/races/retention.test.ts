/** Partitions are dropped while others work: nobody stands still for it, nothing that is needed goes, and it is tried again. */
import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { dropOne } from "../support/maintenance.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { neverWait, type Race, withRace } from "./race.ts";

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;

/** Time goes on until the next partition is begun and known to be in use. */
async function nextPartition(race: Race): Promise<void> {
  await race.eve`select queue.maintain()`;
  await race.db.advance(DAY_MS + 1000);
  await race.eve`select queue.maintain()`;
  await race.eve`select nextval('queue.job_ids')`;
  await race.eve`select queue.maintain()`;
}

interface Old {
  readonly id: string;
  readonly number: number;
}

/** A failed job, alone in a partition that is due to be dropped; no other partition is. */
async function oldDeadJob(race: Race): Promise<Old> {
  await nextPartition(race);
  const { id, lease } = await race.hold();
  await race.eve`select public.fail_job(${id}, 'no', false, null, ${lease})`;
  await nextPartition(race);
  await race.db.advance(9 * DAY_MS);
  const [part] = await race.eve<{ number: number }[]>`
    select number::integer from queue.partitions where ${id}::bigint >= first_id and ${id}::bigint < end_id`;
  assert.ok(part);
  for (;;) {
    const [older] = await race.eve`select from queue.partitions where number < ${part.number}`;
    if (!older) return { id, number: part.number };
    assert.ok(await dropOne(race.eve), "an older partition is in the way");
  }
}

/** A job that has ended and left its key. */
async function keyedJob(race: Race, key: string): Promise<void> {
  const { id, lease } = await race.hold({ key });
  await race.eve`select public.complete_job(${id}, null, ${lease})`;
}

/** Somebody who reads all jobs, as pg_dump does, and has not finished. */
async function read(session: TestSql): Promise<void> {
  await session`begin`;
  await session`select count(*) from public.job_queue`;
}

async function tries(race: Race, number: number): Promise<number> {
  const [row] = await race.eve<{ tries: number }[]>`
    select tries from queue.failures where part = ${`partition ${number}`} and code = '55P03'`;
  return row?.tries ?? 0;
}

interface Problem {
  readonly code: string;
  readonly message: string;
}

async function problems({ db }: Race): Promise<readonly Problem[]> {
  const [row] = await db.sql<{ problems: Problem[] }[]>`
    select public.queue_health() -> 'problems' as problems`;
  return (row?.problems ?? []).filter(({ code }) => /partition|maintenance|ids/.test(code));
}

describeOnEachServer("partitions that are due to go", (context) => {
  it("stay while they hold an open job, however old", () =>
    withRace(context.db, async (race) => {
      await nextPartition(race);
      const id = await race.enqueue();
      await nextPartition(race);
      await context.db.advance(30 * DAY_MS);

      await dropOne(race.bob);

      assert.equal(await race.status(id), "pending");
      await race.claim();
      await race.eve`select public.complete_job(${id})`;
    }));

  it("stay when a job of one was run again while the drop waited for its locks", () =>
    withRace(context.db, async (race) => {
      const { id, number } = await oldDeadJob(race);
      await race.ann`begin`;
      await race.ann`select public.retry_job(${id})`;

      const drop = await race.untilItWaits(
        race.bob,
        race.bob`select queue.drop_partition(${number}, queue.clock() - interval '7 days')`,
      );
      await race.ann`commit`;

      await assert.rejects(drop.answer, { code: "55P03" });
      assert.equal(await race.status(id), "pending");
      await race.claim();
      await race.eve`select public.complete_job(${id})`;
    }));

  it("stay when a job of one was run again, and the drop has an older snapshot", () =>
    withRace(context.db, async (race) => {
      const { id, number } = await oldDeadJob(race);
      await race.ann`begin`;
      await race.ann`select public.retry_job(${id})`;
      await race.bob`begin isolation level repeatable read`;
      await race.bob`select from queue.settings`;
      await race.ann`commit`;

      await assert.rejects(
        race.bob`select queue.drop_partition(${number}, queue.clock() - interval '7 days')`,
        { code: "25001" },
      );
      await race.bob`rollback`;

      assert.equal(await race.status(id), "pending");
      await race.claim();
      await race.eve`select public.complete_job(${id})`;
    }));

  it("stay when a job that waits came to need one while the drop waited for its locks", () =>
    withRace(context.db, async (race) => {
      const { id, number } = await oldDeadJob(race);
      const open = await race.enqueue();
      await race.ann`begin`;
      const child = await race.enqueue({ by: race.ann, parents: [id, open], runAnyway: true });

      const drop = await race.untilItWaits(
        race.bob,
        race.bob`select queue.drop_partition(${number}, queue.clock() - interval '7 days')`,
      );
      await race.ann`commit`;

      await assert.rejects(drop.answer, { code: "55P03" });
      assert.deepEqual([await race.status(id), await race.status(child)], ["failed", "blocked"]);
      await race.eve`select public.cancel_job(${child}), public.cancel_job(${open})`;
    }));

  it("are not waited for: beside a reader it is tried once a minute, whoever asks, and then they go", () =>
    withRace(context.db, async (race) => {
      const { id, number } = await oldDeadJob(race);
      await read(race.ann);

      const early = [await dropOne(race.bob), await dropOne(race.bob), await dropOne(race.eve)];
      const first = await tries(race, number);
      await context.db.advance(MINUTE_MS + 1000);
      early.push(await dropOne(race.bob), await dropOne(race.eve));
      const second = await tries(race, number);
      await race.ann`commit`;
      await context.db.advance(MINUTE_MS + 1000);

      assert.ok(await dropOne(race.bob));
      assert.deepEqual([early.some(Boolean), first, second], [false, 1, 2]);
      assert.equal(await tries(race, number), 0);
      assert.equal(await race.status(id), undefined);
      const [letter] = await context.db.sql`select from public.job_dead_letter where id = ${id}`;
      assert.ok(letter, "the dead letter outlives the partition");
    }));

  it("are asked for a moment, and the longer the moment the rarer it comes: a two-thousandth of the time", () =>
    withRace(context.db, async (race) => {
      const { number } = await oldDeadJob(race);
      await read(race.ann);
      /** How long a try stood in everybody's way, and when the next one comes. */
      const attempt = async (tries: number): Promise<{ ms: number; pauseMs: number }> => {
        await race.eve`update queue.partitions set next_look_at = null`;
        await race.eve`update queue.failures set tries = ${tries}`;
        const start = Number(await context.db.now());
        await dropOne(race.bob);
        const [row] = await race.eve<{ at: Date }[]>`
          select next_look_at as at from queue.partitions where number = ${number}`;
        return {
          ms: Number(await context.db.now()) - start,
          pauseMs: Number(row?.at ?? 0) - start,
        };
      };

      const [first, later, last] = [await attempt(0), await attempt(90), await attempt(10_000)];
      await race.ann`commit`;
      await context.db.advance(10 * MINUTE_MS);
      while (await dropOne(race.bob));

      for (const { ms } of [first, later, last]) assert.ok(ms < 2000, `${ms} ms`);
      const seconds = [first, later, last].map(({ pauseMs }) => Math.floor(pauseMs / 1000));
      assert.deepEqual(seconds, [60, 240, 500]);
    }));

  it("stop nobody while what is kept beside their jobs is deleted, and go in a later call", () =>
    withRace(context.db, async (race) => {
      const { id, number } = await oldDeadJob(race);
      await keyedJob(race, "sample");
      await race.eve`
        insert into queue.idempotency_keys (scope, key, job_id)
        select queue.key_scope(null, ${race.type}, false), 'old-' || n, ${id}::bigint + n % 50 from generate_series(1, 1500) as n`;
      await race.eve`insert into queue.progress (job_id, updated_at) values (${id}, queue.clock())`;
      await race.ann`begin`;
      const isDropped = await dropOne(race.ann);
      await neverWait(race.bob);
      await race.enqueue({ by: race.bob, key: "old-7" }).catch((error) => {
        // The key itself is held until the deletion commits; nothing else is.
        assert.equal(error.code, "55P03");
      });
      const other = await race.enqueue({ by: race.bob });
      await race.claim({ by: race.bob });
      await race.bob`select public.complete_job(${other})`;
      await race.ann`commit`;

      const [left] = await race.eve`
        select (select count(*) from queue.idempotency_keys where key like 'old-%')::integer as keys,
          (select count(*) from queue.progress)::integer as progress`;
      assert.deepEqual([isDropped, left?.["keys"], left?.["progress"]], [false, 0, 0]);
      assert.equal(await race.status(id), "failed");
      assert.ok(await dropOne(race.eve));
      const [part] = await race.eve`select from queue.partitions where number = ${number}`;
      assert.equal(part, undefined);
    }));

  it("do not go before the last key that somebody held", () =>
    withRace(context.db, async (race) => {
      const { id } = await oldDeadJob(race);
      await keyedJob(race, "held");
      await race.eve`update queue.idempotency_keys set job_id = ${id} where key = 'held'`;
      await race.ann`begin`;
      await race.ann`select from queue.idempotency_keys where key = 'held' for update`;

      const isDropped = await dropOne(race.bob);
      await race.ann`commit`;

      assert.equal(isDropped, false);
      assert.equal(await race.status(id), "failed");
      assert.ok(await dropOne(race.bob));
      assert.equal(
        (await race.eve`select from queue.idempotency_keys where key = 'held'`).length,
        0,
      );
    }));

  it("keep nobody from making new ones", () =>
    withRace(context.db, async (race) => {
      await oldDeadJob(race);
      await read(race.ann);
      await race.eve`
        select setval('queue.job_ids', (select max(first_id) from queue.partitions))`;
      await dropOne(race.bob);
      assert.deepEqual(
        (await problems(race)).map(({ code }) => code),
        ["ids_running_out"],
      );

      await race.bob`select queue.maintain()`;

      const [ahead] = await race.eve`
        select count(*)::integer as n from queue.partitions, queue.job_ids where first_id > last_value`;
      assert.equal(ahead?.["n"], 4);
      assert.deepEqual(await problems(race), []);
      await race.ann`commit`;
      await context.db.advance(MINUTE_MS + 1000);
      while (await dropOne(race.bob));
    }));

  it("go without a lock on the others where their owner detached them", () =>
    withRace(context.db, async (race) => {
      const { id, number } = await oldDeadJob(race);
      for (const parent of ["jobs", "runs"]) {
        await race.eve.unsafe(
          `alter table queue.${parent} detach partition queue.${parent}_p${number} concurrently`,
        );
      }
      await read(race.ann);

      const isDropped = await dropOne(race.bob);
      await race.ann`commit`;

      assert.ok(isDropped);
      assert.equal(await race.status(id), undefined);
    }));

  it("that can't go keep no other, are told by health, and in the audit trail once a day", () =>
    withRace(context.db, async (race) => {
      const { number } = await oldDeadJob(race);
      await race.eve.unsafe(
        `create view public.of_the_application as select id from queue.jobs_p${number}`,
      );
      const noted = async (): Promise<number> => {
        const [row] = await race.eve<{ n: number }[]>`
          select count(*)::integer as n from queue.audit
          where action = 'maintenance_failed' and detail ->> 'part' = ${`partition ${number}`}`;
        return row?.n ?? -1;
      };

      const first = await dropOne(race.bob);
      const told = await problems(race);
      for (let hour = 0; hour < 5; hour += 1) {
        await context.db.advance(60 * MINUTE_MS + 1000);
        await dropOne(race.bob);
      }
      const within = await noted();
      await nextPartition(race);
      await dropOne(race.bob);
      const later = await noted();
      await context.db.advance(9 * DAY_MS);
      await nextPartition(race);
      const others: boolean[] = [];
      for (let n = 0; n < 3; n += 1) others.push(await dropOne(race.bob));
      await race.eve`drop view public.of_the_application`;
      await context.db.advance(60 * MINUTE_MS + 1000);
      while (await dropOne(race.bob));

      assert.equal(first, false);
      assert.deepEqual(
        told.map(({ code }) => code),
        ["partition_kept"],
      );
      assert.match(told[0]?.message ?? "", /can't be dropped: .*depend.*2BP01/);
      assert.deepEqual([within, later, others[0]], [1, 2, true]);
      assert.deepEqual(await problems(race), []);
      const [part] = await race.eve`select from queue.partitions where number = ${number}`;
      assert.equal(part, undefined);
    }));

  it("that somebody always uses are told by health after a day", () =>
    withRace(context.db, async (race) => {
      const { number } = await oldDeadJob(race);
      await read(race.ann);
      await dropOne(race.bob);
      const early = await problems(race);
      await context.db.advance(DAY_MS + 1000);
      await dropOne(race.bob);

      const [late] = await problems(race);
      await race.ann`commit`;
      await context.db.advance(10 * MINUTE_MS);
      while (await dropOne(race.bob));

      assert.deepEqual([early, late?.code], [[], "partition_kept"]);
      assert.match(
        late?.message ?? "",
        new RegExp(`detach partition queue.jobs_p${number} concurrently`),
      );
    }));
});
