import assert from "node:assert/strict";
import { it } from "node:test";
import { defineJob, discard, implement, snooze } from "../../src/index.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

const NUL = "\u0000";
const LONE = "\ud800";

/** Everything a handler may throw that once made some queue choke. */
const THROWN: Readonly<Record<string, () => unknown>> = {
  "a NUL": () => new Error(`a${NUL}b`),
  "a lone surrogate": () => new Error(`a${LONE}b`),
  "ten megabytes": () => new Error("x".repeat(10_000_000)),
  "a cyclic object": () => {
    const error = new Error("cyclic") as Error & { self?: unknown };
    error.self = error;
    error.cause = error;
    return error;
  },
  nothing: () => undefined,
  "a symbol": () => Symbol("s"),
  "a bigint": () => 10n,
  "a hostile getter": () => ({
    name: "Hostile",
    get message(): string {
      throw new Error("no");
    },
  }),
  "a name with a NUL": () => Object.assign(new Error("m"), { name: `N${NUL}`, code: `C${LONE}` }),
  "backslashes that look like escapes": () => new Error("\\u0000 \\ud800"),
};

describeOnEachServer("hostile words", (context) => {
  it("whatever a handler throws, its job comes to an end, and others go on", async () => {
    const job = defineJob("hostile", { maxRetries: 0 });
    const handler = implement(job, ({ input }) => {
      throw THROWN[String(input)]?.();
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const kinds = Object.keys(THROWN);
      const jobs = await queue.enqueueMany(job, kinds);

      for (const each of jobs) await assert.rejects(each.result(), { code: "JOB_FAILED" });
      assert.equal((await seen("failed", kinds.length)).length, kinds.length);
      const dead = await context.db.superSql`select id, last_error from public.job_dead_letter`;
      assert.equal(dead.length, kinds.length);
      assert.ok(dead.every((row) => row["last_error"].length <= 8_192));
    });
  });

  it("results, reasons and progress with such characters are kept, with replacements", async () => {
    const job = defineJob("talkative", { maxRetries: 0 });
    const handler = implement(job, async ({ input, progress, attempt }) => {
      progress(50, `half${NUL}`, { note: `x${LONE}` });
      if (input === "result") return { text: `a${NUL}b${LONE}c`, "ke\u0000y": 1 };
      if (input === "discard") return discard(`why${NUL}`);
      return attempt.number === 1 ? snooze(1, `later${LONE}`) : undefined;
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const [result, discarded] = await queue.enqueueMany(job, ["result", "discard", "snooze"]);

      assert.deepEqual(await result?.result(), { text: "a\uFFFDb\uFFFDc", "ke\uFFFDy": 1 });
      await assert.rejects(async () => discarded?.result(), { message: /why\uFFFD/ });
      await seen("snoozed");
    });
  });

  it("a result that the database refuses fails its own job, and none of those that were sent with it", async () => {
    const job = defineJob("deep", { maxRetries: 0 });
    const handler = implement(job, ({ input }) => {
      if (input !== "deep") return "fine";
      // Deeper than the database's parser goes, and not too deep for JavaScript's.
      let nested: unknown = 1;
      for (let depth = 0; depth < 7_000; depth += 1) nested = [nested];
      return nested;
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        const jobs = await queue.enqueueMany(job, ["a", "deep", "b", "c"]);

        const [a, deep, b, c] = jobs;
        assert.equal(await a?.result(), "fine");
        assert.equal(await b?.result(), "fine");
        assert.equal(await c?.result(), "fine");
        await assert.rejects(async () => deep?.result(), { code: "JOB_FAILED", attempts: 1 });
      },
      { settleDelayMs: 50 },
    );
  });
});
