import assert from "node:assert/strict";
import { it } from "node:test";
import { DatabaseUnreachableError } from "../../src/core/database-errors.ts";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { fastClock } from "../core/fast-clock.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate, withWorker } from "./rig.ts";

const once = defineJob("once", { maxRetries: 0 });
const more = defineJob("more", { maxRetries: 3 });

/** The same database, whose answers pass through `hear` before they arrive. */
function heard(sql: Sql, hear: (text: string, answer: string) => Promise<void> | void): Sql {
  return {
    ...sql,
    query: async (text, params, options) => {
      const rows = await sql.query(text, params, options);
      await hear(text, String(Object.values(rows[0] ?? {})[0]));
      return rows;
    },
  };
}

const hasJobs = (answer: string): boolean => /"jobs" ?: ?\{/.test(answer);

describeOnEachServer(
  "claims that were given up",
  (context) => {
    it("are released once they are committed, whatever is left of their lease, and cost no attempt", async () => {
      const runs: string[] = [];
      const handlers = [once, more].map((job) =>
        implement(job, ({ type, input, attempt }) => {
          runs.push(`${type} ${input} ${attempt.number}`);
        }),
      );

      await withWorker(
        context.db,
        handlers,
        async ({ queue, seen, events }) => {
          const jobs = [
            ...(await queue.enqueueMany(once, [1, 2, 3], { delay: 500 })),
            ...(await queue.enqueueMany(more, [1, 2, 3], { delay: 500 })),
          ];
          // As a migration does, or whoever drops an old partition.
          const unlock = gate();
          const migration = context.db.superSql.begin(async (tx) => {
            await tx`lock table only queue.jobs in access exclusive mode`;
            await unlock.opened;
          });
          await seen("disconnected");
          unlock.open();
          await migration;

          for (const job of jobs) await job.result();
          assert.deepEqual(
            runs.toSorted(),
            ["more 1 1", "more 2 1", "more 3 1", "once 1 1", "once 2 1", "once 3 1"],
            "each once, as its first attempt",
          );
          assert.equal(events.filter(({ kind }) => kind === "lost").length, 0);
        },
        { leaseMs: 10_000, listen: false, clock: fastClock(5) },
      );
    });

    it("are told from claims that are under way", async () => {
      const runs: string[] = [];
      const looked = gate();
      const underWay = gate();
      let isLost = false;
      const inner = connect(context.db.url);
      const sql = heard(inner, async (text, answer) => {
        if (text.includes("queue.other_leases") && answer !== "[]") looked.open();
        if (!text.includes("queue.advance") || !hasJobs(answer)) return;
        if (answer.includes('"once"') && !isLost) {
          // This answer is lost, while that of the other lane's claim is long on its way.
          await underWay.opened;
          isLost = true;
          throw new DatabaseUnreachableError("there", "the answer was lost");
        }
        if (answer.includes('"more"')) {
          underWay.open();
          await looked.opened;
        }
      });
      const queue = createQueue({ sql: inner });
      const inputs = [...Array(20).keys()];
      const jobs = [
        ...(await queue.enqueueMany(once, inputs)),
        ...(await queue.enqueueMany(more, inputs)),
      ];
      const worker = createWorker({
        sql,
        handlers: [once, more].map((job) =>
          implement(job, async ({ type, input, attempt }) => {
            runs.push(`${type} ${input} ${attempt.number}`);
          }),
        ),
        queues: { once: 20, more: 20 },
        leaseMs: 60_000,
        listen: false,
        logger: silentLogger,
      });
      try {
        await worker.start();
        for (const job of jobs) await job.result();
        await looked.opened;
        assert.equal(runs.length, 40, "none ran twice");
        assert.equal(new Set(runs).size, 40);
        assert.ok(runs.every((run) => run.endsWith(" 1")));
        const settled = await eventually(async () => {
          const rows = await context.db.superSql`
          select run.outcome, count(*)::integer as n from queue.runs as run
          join queue.jobs as job on job.id = run.job_id
          where job.id = any (${jobs.map(({ id }) => id)}::bigint[]) group by 1 order by 1`;
          return rows.find((row) => row["outcome"] === "completed")?.["n"] === 40
            ? rows
            : undefined;
        });
        assert.deepEqual(
          settled.map((row) => row["outcome"]),
          ["completed", "released"],
        );
      } finally {
        await worker.stop();
        await inner.close();
      }
    });
  },
  { atOnce: "versions" },
);
