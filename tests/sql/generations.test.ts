import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { MAJORS, missingMajor } from "../support/majors.ts";
import { type OwnServer, startTestServer } from "../support/server.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, type Rig, rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

/** As many leases as nobody can lose. */
const JUMP = 1_000_000n;

interface Generation {
  readonly cause: string;
  readonly first_lease_id: string;
}

function generations(rig: Rig): Promise<Generation[]> {
  return rig.sql<Generation[]>`
    select cause, first_lease_id::text from queue.generations order by first_lease_id`;
}

for (const major of MAJORS) {
  describe(
    `lease ids over a crash (Postgres ${major})`,
    { skip: missingMajor(major) ?? false },
    () => {
      let server: OwnServer;
      let db: TestDatabase;
      let rig: Rig;
      let worker: number;

      // The log is written so rarely that a claim, which does not wait for it, is lost by a crash.
      before(async () => {
        server = await startTestServer(major, { wal_writer_delay: "10s" });
      });

      beforeEach(async () => {
        db = await createTestDatabase(server);
        rig = rigOf(db);
        worker = await registerWorker(rig.sql, "survivor");
      });

      after(() => server.stop());

      /** A claim of one job by the worker, with the sequence where its next draw has to be logged. */
      async function claimUnlogged(): Promise<{ id: string; lease_id: string }> {
        await db.superSql`checkpoint`;
        const { jobs } = await advance(rig.sql, worker, { limit: 1 });
        const [job] = jobs;
        assert.ok(job);
        return { lease_id: job[0], id: job[1] };
      }

      it("a worker that survived can't complete what it never ran under a number given twice", async () => {
        const first = await rig.enqueue("survivor.old", { payload: { own: "first" } });
        const lost = await claimUnlogged();
        assert.equal(lost.id, first);

        await server.crashAndRestart();
        const second = await rig.enqueue("survivor.new", { priority: "critical" });
        const { jobs } = await advance(rig.sql, worker, { limit: 1 });
        const [fresh] = jobs;
        const settled = await advance(rig.sql, worker, {
          whole: [{ lease: lost.lease_id, ms: [5] }],
          wholeResults: [{ own: "first" }],
        });

        assert.equal(fresh?.[1], second);
        assert.ok(BigInt(fresh?.[0] ?? 0) > BigInt(lost.lease_id), "the lease has a new number");
        assert.deepEqual(settled.lost, [lost.lease_id]);
        assert.equal(await rig.status(second), "processing");
        assert.equal(await rig.status(first), "pending");
        await db.close();
      });

      it("crashes that follow on each other give new numbers each time", async () => {
        await rig.enqueue("crash.again");
        const ids: string[] = [];
        for (let crash = 0; crash < 3; crash += 1) {
          ids.push((await claimUnlogged()).lease_id);
          await server.crashAndRestart();
        }

        assert.deepEqual(ids, [...new Set(ids)]);
        assert.deepEqual(
          ids,
          ids.toSorted((left, right) => Number(BigInt(left) - BigInt(right))),
        );
        await db.close();
      });

      it("each start of the server is noted once, whoever comes first", async () => {
        await rig.enqueue("start.noted");
        const earlier = await generations(rig);
        await server.crashAndRestart();
        await Promise.all(
          Array.from({ length: 8 }, () => db.connect({ max: 1 })`select queue.ensure_generation()`),
        );

        const noted = await generations(rig);

        assert.deepEqual(
          noted.slice(earlier.length).map(({ cause }) => cause),
          ["crash"],
        );
        await db.close();
      });
    },
  );
}

describeOnEachServer("generations of ids", (context) => {
  let rig: Rig;

  beforeEach(() => {
    rig = rigOf(context.db);
  });

  /** As a crash leaves it. */
  async function resetMark(): Promise<void> {
    await context.db.superSql`alter sequence queue.generation_mark restart`;
  }

  async function lastLease(): Promise<bigint> {
    const [row] = await rig.sql<
      { id: string }[]
    >`select last_value::text as id from queue.lease_ids`;
    return BigInt(only(row).id);
  }

  it("the ids of leases move on by far more than can be lost, and never back", async () => {
    const before = await rig.start("moves.on");
    await resetMark();
    const later = await rig.start("moves.on");
    const next = await rig.start("moves.on");

    assert.ok(BigInt(later.lease_id) > BigInt(before.lease_id) + JUMP - 1n);
    assert.ok(BigInt(next.lease_id) > BigInt(later.lease_id));
    assert.ok(BigInt(next.lease_id) < BigInt(later.lease_id) + 100n, "it moves once");
  });

  it("an open transaction that noticed the start first makes nobody wait and nothing move twice", async () => {
    await rig.start("open.first");
    await resetMark();
    const stranger = context.db.connect({ max: 1 });
    await stranger`begin`;
    await stranger`select public.enqueue_job('open.first')`;
    const moved = await lastLease();

    const mine = await rig.start("open.mine");

    assert.ok(BigInt(mine.lease_id) < moved + 100n);
    await stranger`rollback`;
    const after = await rig.start("open.mine");
    assert.ok(BigInt(after.lease_id) < moved + 100n);
  });

  it("in an older snapshot the start is noticed once too", async () => {
    const old = context.db.connect({ max: 1 });
    await old`begin isolation level repeatable read`;
    await old`select count(*) from queue.jobs`;
    await resetMark();
    await rig.enqueue("snapshot.new");
    const moved = await lastLease();
    for (let at = 0; at < 5; at += 1) await old`select public.enqueue_job('snapshot.old')`;
    await old`commit`;

    assert.equal(await lastLease(), moved);
  });

  it("on another timeline the ids of jobs move on as well: acknowledged ones may be lost", async () => {
    await rig.enqueue("timeline.before");
    const before = await rig.enqueue("timeline.before");
    await context.db.superSql`update queue.generations set timeline = timeline - 1`;
    await resetMark();

    const after = await rig.enqueue("timeline.after");

    const [span] = await rig.sql<{ first_id: string; n: number }[]>`
      select part.first_id::text, (
        select count(*)::integer from queue.partitions as other where other.first_id > ${before} and other.first_id <= part.first_id
      ) as n
      from queue.partitions as part where ${after} between part.first_id and part.end_id - 1`;
    assert.deepEqual({ ...span }, { first_id: after, n: 2 });
    assert.equal((await generations(rig)).at(-1)?.cause, "promotion");
    const claimed = await rig.take("timeline.after");
    assert.equal(claimed.id, after);
  });

  it("with one partition left ahead, the ids of jobs move on to that one", async () => {
    const { superSql } = context.db;
    await superSql`select setval('queue.job_ids', max(first_id) - 1) from queue.partitions`;
    await superSql`update queue.generations set timeline = timeline - 1`;
    await resetMark();

    const after = await rig.enqueue("timeline.last");

    const [newest] = await superSql<{ first_id: string }[]>`
      select max(first_id)::text as first_id from queue.partitions`;
    assert.equal(after, only(newest).first_id);
  });

  it("a server that started with its clock before 2020 has a mark too", async () => {
    const earlier = (await generations(rig)).length;
    await context.db.superSql`select setval('queue.generation_mark', -6776917110000000000)`;

    await rig.enqueue("clock.early");
    await rig.enqueue("clock.early");

    assert.equal((await generations(rig)).length, earlier + 1);
  });
});
