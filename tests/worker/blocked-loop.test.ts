import assert from "node:assert/strict";
import { it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { aborted, gate, withWorker } from "./rig.ts";

const spin = defineJob("spin", { maxRetries: 1, backoff: { base: 10, jitter: 0 } });
const mail = defineJob("mail", { maxRetries: 3 });
const charge = defineJob("charge", { maxRetries: 0 });

/** Keeps this thread to itself, without a need for the processor. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describeOnEachServer("a handler that blocks the event loop", (context) => {
  /** Runs `work` while no lease can be extended: whoever asks gets no answer. */
  async function whileSilent(work: () => Promise<void>): Promise<void> {
    await context.db.superSql.begin(async (tx) => {
      await tx`lock table queue.leases in access exclusive mode`;
      await work();
    });
  }

  it("does not cost its neighbours their leases, and is named in the log and in the health", async () => {
    const runs: string[] = [];
    const beside = async ({ type, input }: { type: string; input: unknown }): Promise<void> => {
      await delay(300);
      // Some end when the process is free again, which is told with a look for more; the others are still at work.
      if (input !== 1) await delay(300);
      runs.push(`${type} ${input}`);
    };
    const handlers = [
      implement(spin, () => {
        block(3_500);
        runs.push("spin 0");
      }),
      implement(mail, beside),
      implement(charge, beside),
    ];

    await withWorker(
      context.db,
      handlers,
      async ({ queue, seen, events }) => {
        const jobs = [
          ...(await queue.enqueueMany(mail, [1, 2, 3])),
          ...(await queue.enqueueMany(charge, [1, 2, 3])),
        ];
        await seen("started", 6);
        jobs.push((await queue.enqueue(spin, 0)) as never);

        for (const job of jobs) await job.result();
        assert.deepEqual(
          runs.toSorted(),
          ["charge 1", "charge 2", "charge 3", "mail 1", "mail 2", "mail 3", "spin 0"],
          "each ran once",
        );
        assert.equal((await context.db.superSql`select from public.job_dead_letter`).length, 0);
        assert.equal(events.filter(({ kind }) => kind === "lost").length, 0);
        assert.equal(events.filter(({ kind }) => kind === "disconnected").length, 0);
        const [told] = await seen("blocked");
        assert.deepEqual(told?.types, ["spin"]);
        assert.ok(told.ms > 3_000 && told.ms < 9_000, String(told.ms));
        assert.match(told.hint, /yield.*worker thread.*raise leaseMs/);
        const problem = await eventually(async () =>
          (await queue.health()).problems.find(({ code }) => code === "event_loop_blocked"),
        );
        assert.match(problem.message, /type spin blocked its event loop for \d+ ms/);
      },
      { leaseMs: 1_500 },
    );
  });

  it("is followed by no look for work before its leases are extended: that would take them away", async () => {
    const inner = connect(context.db.url);
    const queue = createQueue({ sql: inner });
    const calls: string[] = [];
    // Without a connection of its own for leases: all calls come by here.
    const { dedicated: _none, ...shared } = inner;
    const sql: Sql = {
      ...shared,
      query: async (text, params, options) => {
        const isExtend = text.includes("queue.extend_leases");
        const isLook =
          text.includes("queue.maintain") ||
          (text.includes("queue.advance") && params?.[10] !== "0");
        if (isLook) calls.push("look");
        // A link that takes its time, so that whoever does not wait comes first.
        if (isExtend) await delay(200);
        const rows = await inner.query(text, params, options);
        if (isExtend) calls.push("extended");
        return rows;
      },
    };
    const started = gate();
    const long = gate();
    const handler = implement(charge, async ({ input }) => {
      if (input === 2) started.open();
      await started.opened;
      await delay(10);
      if (input === 2) await long.opened;
    });
    const worker = createWorker({
      sql,
      handlers: [handler],
      leaseMs: 1_500,
      listen: false,
      logger: silentLogger,
    });
    try {
      const jobs = await queue.enqueueMany(charge, [1, 2]);
      await worker.start();
      await started.opened;
      await eventually(() => calls.at(-1) === "look");
      block(2_250);
      calls.length = 0;
      await eventually(() => calls.includes("look"));
      assert.equal(calls[0], "extended", calls.join());
      long.open();
      for (const job of jobs) await job.result();
    } finally {
      await worker.stop();
      await inner.close();
    }
  });

  it("does not cost its neighbours their time: who has an answer already may read it", async () => {
    const timed = defineJob("timed", { timeout: 1_000, maxRetries: 0 });
    const started = gate();
    await withWorker(
      context.db,
      [
        implement(spin, () => block(1_500)),
        implement(timed, async () => {
          started.open();
          await context.db.superSql`select pg_sleep(0.3)`;
        }),
      ],
      async ({ queue }) => {
        const job = await queue.enqueue(timed, {});
        await started.opened;
        const other = await queue.enqueue(spin, {});
        await Promise.all([job.result(), other.result()]);
      },
      { leaseMs: 30_000 },
    );
  });

  it("does not loop without a word when another worker takes its job meanwhile", async () => {
    let runs = 0;
    const taken = gate();
    const handler = implement(spin, async () => {
      runs += 1;
      // After an await nobody can measure the call itself.
      await taken.opened;
      block(1_500);
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        const job = await queue.enqueue(spin, {});
        await seen("started");
        // What another worker does while this one is blocked, in one statement: nobody is here to send a second.
        const rescued = context.db.superSql
          .unsafe(`do $$ begin
            perform pg_sleep(0.5);
            update queue.leases set expires_at = queue.clock() - interval '1 second';
            perform queue.rescue(100);
          end $$`)
          .execute();
        await eventually(
          async () =>
            (
              await context.db.superSql`
                select from pg_stat_activity where query like 'do $$ begin%' and state = 'active'`
            ).length > 0,
        );
        taken.open();
        await rescued;

        const [lost] = await seen("lost");
        assert.match(lost?.reason ?? "", /type spin blocked the event loop for \d+ ms/);
        const [told] = await seen("blocked");
        assert.deepEqual(told?.types, ["spin"]);
        await job.result();
        assert.equal(runs, 2);
      },
      { leaseMs: 1_000 },
    );
  });

  it("on a link that is silent besides, its neighbours are told to stop soon after", async () => {
    const started = gate();
    const told: number[] = [];
    const handlers = [
      implement(mail, async ({ signal }) => {
        started.open();
        await aborted(signal);
        told.push(performance.now());
        throw signal.reason;
      }),
    ];

    await withWorker(
      context.db,
      handlers,
      async ({ queue, seen }) => {
        await queue.enqueue(mail, 1);
        await started.opened;
        await whileSilent(async () => {
          block(1_500);
          const freeAt = performance.now();

          const [lost] = await seen("lost");
          assert.ok((told[0] ?? Infinity) - freeAt < 1_500, `after ${(told[0] ?? 0) - freeAt} ms`);
          assert.match(lost?.reason ?? "", /did not run for \d+ ms|blocked the event loop/);
        });
      },
      { leaseMs: 1_000 },
    );
  });

  it("on a link that is silent all along, handlers are told to stop at their lease's end", async () => {
    const started = gate();
    const handler = implement(mail, async ({ signal }) => {
      started.open();
      await aborted(signal);
      throw signal.reason;
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        await queue.enqueue(mail, 1);
        await started.opened;
        await whileSilent(async () => {
          const since = performance.now();

          const [lost] = await seen("lost");
          assert.equal(lost?.reason, undefined);
          assert.ok(performance.now() - since < 3_000);
        });
      },
      { leaseMs: 1_000 },
    );
  });
});
