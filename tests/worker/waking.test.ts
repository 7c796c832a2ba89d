import assert from "node:assert/strict";
import { it } from "node:test";
import { defineJob, implement } from "../../src/index.ts";
import { randomFrom } from "../crash/plan.ts";
import type { TestSql } from "../support/connect.ts";
import { eventually } from "../support/eventually.ts";
import { pgbouncerMissing, startPgBouncer } from "../support/pgbouncer.ts";
import { seedFromEnvironment } from "../support/seed.ts";
import { describeOnEachServer, describeWithDatabase } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

const task = defineJob("task");
const handler = implement(task, () => "done");

/** So long a sleep that only a wake-up can explain a quick start. */
const HOUR = 3_600_000;

describeOnEachServer("an idle worker", (context) => {
  /** Resolves when the worker sleeps and wants to be woken. */
  async function asleep(): Promise<void> {
    await eventually(async () => {
      const bells = await context.db.superSql`select 1 from queue.bells`;
      return bells.length > 0;
    });
  }

  it("is woken by an enqueue, however long it would have slept", async () => {
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        // The first job makes the queue known, so that there is a bell to arm.
        await (await queue.enqueue(task, {})).result();
        for (let round = 0; round < 3; round += 1) {
          await asleep();
          const job = await queue.enqueue(task, {});
          assert.equal(await job.result({ timeoutMs: 10_000 }), "done");
        }
      },
      { pollIntervalMs: HOUR },
    );
  });

  it("is woken by an enqueue in another program's transaction, once that commits", async () => {
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        await (await queue.enqueue(task, {})).result();
        await asleep();
        const job = await context.db.sql.begin((tx) => queue.with(tx).enqueue(task, {}));
        assert.equal(await job.result({ timeoutMs: 10_000 }), "done");
      },
      { pollIntervalMs: HOUR },
    );
  });

  it("wakes by itself when a scheduled job falls due", async () => {
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        const job = await queue.enqueue(task, {}, { delay: "300ms" });
        assert.equal(await job.result({ timeoutMs: 10_000 }), "done");
      },
      { pollIntervalMs: HOUR, listen: false },
    );
  });

  it("finds work by polling alone where there is no LISTEN", async () => {
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        for (let round = 0; round < 3; round += 1) {
          const job = await queue.enqueue(task, {});
          assert.equal(await job.result(), "done");
        }
      },
      { listen: false, pollIntervalMs: 50 },
    );
  });

  it("is woken for everybody beside transactions that enqueued, stay open and end in any way", async (t) => {
    const seed = seedFromEnvironment();
    t.diagnostic(`seed ${seed}`);
    const random = randomFrom(seed);
    const sessions = Array.from({ length: 4 }, () => context.db.connect({ max: 1 }));
    const open = new Set<TestSql>();
    const step = async (): Promise<void> => {
      const session = sessions[Math.floor(random() * sessions.length)];
      assert.ok(session);
      if (open.delete(session)) await session.unsafe(random() < 0.5 ? "commit" : "rollback");
      else {
        open.add(session);
        await session`begin`;
        await session`select public.enqueue_job('task')`;
      }
    };
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        await (await queue.enqueue(task, {})).result();
        for (let round = 0; round < 40; round += 1) {
          if (random() < 0.2) await asleep();
          if (random() < 0.7) await step();
          const job = await queue.enqueue(task, {});
          assert.equal(await job.result({ timeoutMs: 10_000 }), "done");
        }
        for (const session of open) await session`commit`;
        await eventually(async () => (await queue.stats("task"))[0]?.pending === 0);
      },
      { pollIntervalMs: HOUR },
    );
    for (const session of sessions) await session.end();
  });

  it("hears again after the listening connection was cut", async () => {
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        await (await queue.enqueue(task, {})).result();
        await asleep();
        await context.db.superSql`
          select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and query ilike 'listen%'`;
        await eventually(async () => {
          const ears = await context.db.superSql`
            select 1 from pg_stat_activity where datname = current_database() and query ilike 'listen%'`;
          return ears.length > 0;
        });
        const job = await queue.enqueue(task, {});
        assert.equal(await job.result({ timeoutMs: 10_000 }), "done");
      },
      { pollIntervalMs: 5_000 },
    );
  });
});

describeWithDatabase("behind a pooler in transaction mode", (context) => {
  for (const pooled of [true, false]) {
    const how = pooled ? "told of the pooler" : "not told of the pooler, with LISTEN swallowed";
    it(`a worker does its work, ${how}`, { skip: pgbouncerMissing }, async () => {
      const bouncer = await startPgBouncer(context.db, { poolSize: 2 });
      try {
        await withWorker(
          context.db,
          [handler],
          async ({ queue }) => {
            const jobs = await queue.enqueueMany(task, Array(200).fill({}));
            for (const job of jobs) assert.equal(await job.result(), "done");
            const later = await queue.enqueue(task, {}, { delay: 100 });
            assert.equal(await later.result(), "done");
          },
          { url: bouncer.url, pooled, pollIntervalMs: 50 },
        );
      } finally {
        await bouncer.stop();
      }
    });
  }
});
