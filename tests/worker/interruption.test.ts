import assert from "node:assert/strict";
import { it } from "node:test";
import { defineJob, type HandlerContext, implement } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { aborted, gate, loseLeases, withWorker } from "./rig.ts";

const slow = defineJob("slow", { maxRetries: 1, backoff: { base: 10, jitter: 0 } });

describeOnEachServer("what interrupts a handler", (context) => {
  it("a lost lease aborts the signal, and nothing that the handler does after it is settled", async () => {
    const started = gate();
    const reasons: unknown[] = [];
    let calls = 0;
    const handler = implement(slow, async ({ signal }) => {
      calls += 1;
      if (calls > 1) return "the second run's result";
      started.open();
      await aborted(signal);
      reasons.push(signal.reason);
      return "a result that comes too late";
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const job = await queue.enqueue(slow, {});
      await started.opened;

      await loseLeases(context.db);

      assert.equal(await job.result(), "the second run's result");
      const reason = await eventually(() => reasons[0]);
      assert.equal((reason as { code: string }).code, "LEASE_LOST");
      assert.equal((await seen("lost")).length, 1);
      assert.equal((await seen("completed")).length, 1);
    });
  });

  it("a settlement that comes too late is refused, and changes nothing", async () => {
    const started = gate();
    const finish = gate();
    const handler = implement(slow, async ({ attempt }) => {
      if (attempt.number > 1) return "second";
      started.open();
      await finish.opened;
      return "first";
    });

    // So long a lease that the worker finds out at the settlement, not at the extension.
    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        const job = await queue.enqueue(slow, {});
        await started.opened;
        await loseLeases(context.db);
        finish.open();

        await seen("lost");
        assert.equal(await job.result(), "second");
      },
      { leaseMs: 60_000 },
    );
  });

  it("leases are extended for as long as the handler runs", async () => {
    const finish = gate();
    const started = gate();
    const handler = implement(slow, async () => {
      started.open();
      await finish.opened;
      return "done";
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const job = await queue.enqueue(slow, {});
      await started.opened;
      const [first] = await context.db.superSql`select id, expires_at from queue.leases`;
      await eventually(async () => {
        const [now] = await context.db
          .superSql`select expires_at from queue.leases where id = ${first?.["id"]}`;
        return now?.["expires_at"] > first?.["expires_at"].getTime() + 1_000;
      });
      finish.open();
      assert.equal(await job.result(), "done");
    });
  });

  it("a handler that takes too long fails with a timeout and is tried again", async () => {
    const timed = defineJob("timed", {
      timeout: 50,
      maxRetries: 1,
      backoff: { base: 10, jitter: 0 },
    });
    const handler = implement(timed, async ({ signal, attempt }) => {
      if (attempt.number > 1) return "in time";
      await aborted(signal);
      throw signal.reason;
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const job = await queue.enqueue(timed, {});

      assert.equal(await job.result(), "in time");
      const [event] = await seen("retried");
      assert.equal(event?.error.code, "JOB_TIMEOUT");
    });
  });

  it("a handler that ignores its timeout can't keep its job from being tried again, but keeps its slot", async () => {
    const stubborn = defineJob("stubborn", {
      timeout: 50,
      maxRetries: 1,
      backoff: { base: 10, jitter: 0 },
    });
    const finish = gate();
    const handler = implement(stubborn, async ({ attempt }) => {
      if (attempt.number === 1) await finish.opened;
      return attempt.number;
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen, worker, status }) => {
        const job = await queue.enqueue(stubborn, {});
        await seen("retried");
        assert.equal(worker.running, 1, "the handler holds its slot");
        assert.notEqual(await status(job), "processing");

        finish.open();
        assert.equal(await job.result(), 2);
      },
      { concurrency: 1 },
    );
  });

  it("the timeout given with a job goes before the definition's", async () => {
    const lenient = defineJob("lenient", { timeout: "1h", maxRetries: 0 });
    const handler = implement(lenient, async ({ signal }) => {
      await aborted(signal);
      throw signal.reason;
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const job = await queue.enqueue(lenient, {}, { timeout: 20 });

      await assert.rejects(job.result(), { code: "JOB_FAILED", message: /longer than 20 ms/ });
    });
  });

  it("cancelling a running job aborts its signal, and it ends as cancelled when the handler throws", async () => {
    const started = gate();
    let reason: unknown;
    const handler = implement(slow, async ({ signal }) => {
      started.open();
      await aborted(signal);
      reason = signal.reason;
      throw new Error("interrupted");
    });

    await withWorker(context.db, [handler], async ({ queue, seen, status }) => {
      const job = await queue.enqueue(slow, {});
      await started.opened;

      assert.equal(await queue.cancel(job, { reason: "no longer wanted" }), "processing");

      await seen("cancelled");
      assert.equal((reason as { code: string }).code, "JOB_CANCELLED");
      assert.equal(await status(job), "cancelled");
      await assert.rejects(job.result(), { code: "JOB_CANCELLED" });
    });
  });

  it("work that was done in spite of a cancellation counts as completed", async () => {
    const started = gate();
    const handler = implement(slow, async ({ signal }) => {
      started.open();
      await aborted(signal);
      return "paid already";
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const job = await queue.enqueue(slow, {});
      await started.opened;
      await queue.cancel(job);

      assert.equal(await job.result(), "paid already");
    });
  });

  it("without LISTEN a cancellation arrives with the next extension", async () => {
    const started = gate();
    const handler = implement(slow, async ({ signal }) => {
      started.open();
      await aborted(signal);
      throw signal.reason;
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        const job = await queue.enqueue(slow, {});
        await started.opened;
        await queue.cancel(job);
        await seen("cancelled");
      },
      { listen: false },
    );
  });

  it("the signal can be read late, from a context taken apart", async () => {
    const contexts: HandlerContext[] = [];
    const started = gate();
    const handler = implement(slow, async (whole) => {
      contexts.push(whole as HandlerContext);
      started.open();
      await eventually(() => whole.signal.aborted);
      const { signal } = whole;
      throw signal.reason;
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const job = await queue.enqueue(slow, {});
      await started.opened;
      await queue.cancel(job);
      await seen("cancelled");
      assert.equal(contexts[0]?.signal.aborted, true);
    });
  });
});
