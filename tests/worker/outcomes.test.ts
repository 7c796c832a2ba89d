import assert from "node:assert/strict";
import { it } from "node:test";
import { z } from "zod";
import { defineJob, discard, fail, implement, snooze } from "../../src/index.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

const BACKOFF = { base: 20, jitter: 0 } as const;

describeOnEachServer("how an attempt ends", (context) => {
  it("a handler that returns completes its job with what it returned", async () => {
    const add = defineJob("add", {
      input: z.object({ a: z.number(), b: z.number() }),
      output: z.number(),
    });

    await withWorker(
      context.db,
      [implement(add, ({ input }) => input.a + input.b)],
      async ({ queue, seen }) => {
        const job = await queue.enqueue(add, { a: 1, b: 2 });

        assert.equal(await job.result(), 3);
        const [event] = await seen("completed");
        assert.deepEqual(
          event && [event.job.id, event.job.type, event.job.attempt, event.job.maxAttempts],
          [job.id, "add", 1, 4],
        );
      },
    );
  });

  it("a handler that throws is tried again after the backoff, until it succeeds", async () => {
    const flaky = defineJob("flaky", { backoff: BACKOFF });
    const numbers: number[] = [];
    const handler = implement(flaky, async ({ attempt }) => {
      numbers.push(attempt.number);
      if (attempt.number < 3) throw new Error(`no ${attempt.number}`);
      return attempt.max;
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const job = await queue.enqueue(flaky, {});

      assert.equal(await job.result(), 4);
      assert.deepEqual(numbers, [1, 2, 3]);
      const retried = await seen("retried", 2);
      assert.deepEqual(
        retried.map((event) => event.error.message),
        ["no 1", "no 2"],
      );
      assert.ok(retried.every((event) => (event.retryInMs ?? -1) >= 0));
    });
  });

  it("a job whose attempts are used up is in the dead letters, and its waiter gets the last error", async () => {
    const doomed = defineJob("doomed", { maxRetries: 1, backoff: BACKOFF });
    const handler = implement(doomed, () => {
      throw Object.assign(new TypeError("broken"), { code: "E1" });
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const job = await queue.enqueue(doomed, {});

      await assert.rejects(
        job.result(),
        (error: { code: string; attempts: number; error: object }) => {
          assert.equal(error.code, "JOB_FAILED");
          assert.equal(error.attempts, 2);
          assert.partialDeepStrictEqual?.(error.error, {
            name: "TypeError",
            message: "broken",
            code: "E1",
          });
          return true;
        },
      );
      await seen("failed");
      const dead = await context.db
        .superSql`select * from public.job_dead_letter where id = ${job.id}`;
      assert.equal(dead[0]?.["errors"].length, 2);
    });
  });

  it("a snoozed job comes again and has lost no attempt", async () => {
    const patient = defineJob("patient", { maxRetries: 0 });
    let calls = 0;
    const numbers: number[] = [];
    const handler = implement(patient, ({ attempt }) => {
      numbers.push(attempt.number);
      calls += 1;
      return calls < 4 ? snooze(10, "not yet") : "done";
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const job = await queue.enqueue(patient, {});

      assert.equal(await job.result(), "done");
      assert.deepEqual(numbers, [1, 1, 1, 1]);
      assert.equal((await seen("snoozed", 3))[0]?.reason, "not yet");
    });
  });

  it("a discarded job fails at once, however many attempts it had left; thrown or returned", async () => {
    const unwanted = defineJob("unwanted");
    const handler = implement(unwanted, ({ input }) => {
      if (input === "throw") throw discard("obsolete");
      return discard("obsolete");
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const jobs = await queue.enqueueMany(unwanted, ["throw", "return"]);

      for (const job of jobs) {
        await assert.rejects(job.result(), {
          code: "JOB_FAILED",
          attempts: 1,
          message: /obsolete/,
        });
      }
      assert.equal((await seen("discarded", 2))[0]?.reason, "obsolete");
    });
  });

  it("a handler can say whether and when a failure is tried again", async () => {
    const picky = defineJob("picky", { backoff: { base: "1h" } });
    const handler = implement(picky, ({ input, attempt }) => {
      if (input === "never") return fail(new Error("wrong"), { retryable: false });
      return attempt.number === 1 ? fail(new Error("busy"), { retryAfter: 10 }) : "done";
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const [never, soon] = await queue.enqueueMany(picky, ["never", "soon"]);

      await assert.rejects(async () => never?.result(), { code: "JOB_FAILED", attempts: 1 });
      assert.equal(await soon?.result(), "done");
    });
  });

  it("an input that does not fit its schema fails without a retry, with the path of the fault", async () => {
    const strict = defineJob("strict", { input: z.object({ to: z.object({ email: z.email() }) }) });
    const producer = defineJob("strict");
    let calls = 0;
    const handler = implement(strict, () => {
      calls += 1;
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const job = await queue.enqueue(producer, { to: { email: "nobody" } });

      await assert.rejects(job.result(), { code: "JOB_FAILED", attempts: 1 });
      const [event] = await seen("failed");
      assert.match(event?.error.message ?? "", /to\.email/);
      assert.equal(event?.error.code, "INVALID_PAYLOAD");
      assert.equal(calls, 0);
    });
  });

  it("a result that does not fit, or that JSON can't say, fails without a retry", async () => {
    const wrong = defineJob("wrong", { output: z.object({ id: z.string() }) });
    const unsayable = defineJob("unsayable");
    const handlers = [
      implement(wrong, () => ({ id: 5 }) as never),
      implement(unsayable, () => ({ total: 5n })),
    ];

    await withWorker(context.db, handlers, async ({ queue }) => {
      const one = await queue.enqueue(wrong, {});
      const two = await queue.enqueue(unsayable, {});

      await assert.rejects(one.result(), { attempts: 1, message: /Result is invalid at id/ });
      await assert.rejects(two.result(), { attempts: 1, message: /at total: a bigint/ });
    });
  });

  it("a child reads its parents' results, and runs only after them", async () => {
    const part = defineJob("part", { output: z.number() });
    const sum = defineJob("sum");
    const handlers = [
      implement(part, ({ input }) => Number(input)),
      implement(sum, async ({ parents }) => {
        const results = await parents();
        return results.reduce((total, parent) => total + Number(parent.result), 0);
      }),
    ];

    await withWorker(context.db, handlers, async ({ queue }) => {
      const total = await queue.flow((flow) => {
        const parts = [1, 2, 3].map((n) => flow.add(part, n));
        return flow.add(sum, {}, { after: parts });
      });

      assert.equal(await total.result(), 6);
    });
  });
});
