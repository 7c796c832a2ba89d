import assert from "node:assert/strict";
import { it } from "node:test";
import { defineJob, implement } from "../../src/index.ts";
import { fastClock } from "../core/fast-clock.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate, withWorker } from "./rig.ts";

const hung = defineJob("hung", { timeout: 50, maxRetries: 0, queue: "slots" });
const next = defineJob("next", { maxRetries: 0, queue: "slots" });

describeOnEachServer(
  "handlers that don't stop",
  (context) => {
    it("are told of in the log, and to whoever asks why other jobs wait", async () => {
      const end = gate();
      const logged: [string, unknown][] = [];
      const ignore = (): void => undefined;
      const logger = {
        debug: ignore,
        info: ignore,
        error: ignore,
        warn: (event: string, fields?: object) => logged.push([event, fields]),
      };
      await withWorker(
        context.db,
        [implement(hung, () => end.opened), implement(next, () => "done")],
        async ({ queue, seen }) => {
          await queue.enqueueMany(hung, [1, 2]);
          await seen("failed", 2);
          const job = await queue.enqueue(next, {});

          const told = await seen("overrunning", 2);
          assert.ok(
            told.every(({ job: { type }, runningMs }) => type === "hung" && runningMs > 5_000),
          );
          assert.equal(logged.filter(([event]) => event === "job.overrunning").length, 2);
          const why = await eventually(async () => {
            const { reasons } = await queue.explain(job);
            return reasons.find(({ code }) => code === "no_free_slot");
          });
          assert.match(why.message, /2 of 2 are taken/);
          assert.match(why.message, /2 handlers of type hung have not stopped \d+ s after/);
          const { problems } = await queue.health();
          const problem = problems.find(({ code }) => code === "handlers_overrun");
          assert.match(problem?.message ?? "", /2 handlers of type hung have not stopped/);

          end.open();
          assert.equal(await job.result(), "done");
          assert.equal((await seen("overrunning", 2)).length, 2, "once each");
        },
        { concurrency: 2, logger, clock: fastClock(5) },
      );
    });

    it("or run, and what was only fetched, are told apart", async () => {
      const open = gate();
      const quick = defineJob("quick", { maxRetries: 0 });
      let isSlow = false;
      const handler = implement(quick, () => (isSlow ? open.opened : undefined));
      await withWorker(
        context.db,
        [handler],
        async ({ queue, seen }) => {
          await queue.enqueueMany(quick, Array(300).fill({}));
          await seen("completed", 300);
          isSlow = true;
          const jobs = await queue.enqueueMany(quick, Array(40).fill({}));
          await seen("started", 302);
          // What has to wait goes back; what is fetched is told by heartbeats.
          await eventually(
            async () => {
              const [stats] = await queue.stats("quick");
              return stats?.processing === 2 && stats.fetched === 0;
            },
            { timeoutMs: 20_000 },
          );
          open.open();
          for (const job of jobs) await job.result();
        },
        { concurrency: 2 },
      );
    });
  },
  { atOnce: "versions" },
);
