import assert from "node:assert/strict";
import { it } from "node:test";
import { z } from "zod";
import { defineJob, discard, implementBatch, snooze } from "../../src/index.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { aborted, gate, withWorker } from "./rig.ts";

const index = defineJob("index", { input: z.number(), maxRetries: 0 });

describeWithDatabase("batch handlers", (context) => {
  it("get several jobs at once, up to their size, and answer for each", async () => {
    const sizes: number[] = [];
    const handler = implementBatch(
      index,
      async ({ jobs }) => {
        sizes.push(jobs.length);
        return jobs.map((job) => job.input * 2);
      },
      { maxSize: 10 },
    );

    await withWorker(context.db, [handler], async ({ queue }) => {
      const jobs = await queue.enqueueMany(
        index,
        Array.from({ length: 25 }, (_, at) => at),
      );

      const results = await Promise.all(jobs.map((job) => job.result()));
      assert.deepEqual(
        results,
        Array.from({ length: 25 }, (_, at) => at * 2),
      );
      assert.ok(Math.max(...sizes) <= 10);
      assert.ok(sizes.length < 25);
    });
  });

  it("give each job its own end", async () => {
    const seenNumbers = new Set<number>();
    const handler = implementBatch(index, ({ jobs }) =>
      jobs.map(({ input }) => {
        const isFirst = !seenNumbers.has(input);
        seenNumbers.add(input);
        if (input === 1) return discard("unwanted");
        if (input === 2 && isFirst) return snooze(10);
        return "ok";
      }),
    );

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const [zero, one, two] = await queue.enqueueMany(index, [0, 1, 2]);

      assert.equal(await zero?.result(), "ok");
      await assert.rejects(async () => one?.result(), { code: "JOB_FAILED", message: /unwanted/ });
      assert.equal(await two?.result(), "ok");
      await seen("snoozed");
    });
  });

  it("complete all by returning nothing, and fail all by throwing", async () => {
    const handler = implementBatch(index, async ({ jobs }) => {
      if (jobs.some((job) => job.input < 0)) throw new Error("all of them");
      return undefined;
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const good = await queue.enqueueMany(index, [1, 2]);
      for (const job of good) assert.equal(await job.result(), null);
      const bad = await queue.enqueueMany(index, [-1, -2]);
      for (const job of bad) await assert.rejects(job.result(), { message: /all of them/ });
    });
  });

  it("must answer for as many jobs as they got", async () => {
    const handler = implementBatch(index, () => []);

    await withWorker(context.db, [handler], async ({ queue }) => {
      const job = await queue.enqueue(index, 1);
      await assert.rejects(job.result(), { message: /one entry for each of 1 jobs/ });
    });
  });

  it("never see a job whose input does not fit; it fails alone", async () => {
    const seenInputs: number[] = [];
    const handler = implementBatch(index, ({ jobs }) => {
      seenInputs.push(...jobs.map((job) => job.input));
      return undefined;
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const [good] = await queue.enqueueMany(index, [7]);
      const bad = await queue.enqueue(defineJob("index", { maxRetries: 0 }), "seven");

      assert.equal(await good?.result(), null);
      await assert.rejects(bad.result(), { message: /Payload is invalid/ });
      assert.deepEqual(seenInputs, [7]);
    });
  });

  it("lose one job to a cancellation and go on with the others", async () => {
    const started = gate();
    const cancelled = gate();
    let batchAborted = true;
    const handler = implementBatch(index, async ({ jobs, signal }) => {
      started.open();
      const [first] = jobs;
      if (first) await aborted(first.signal);
      batchAborted = signal.aborted;
      cancelled.open();
      return jobs.map((job) => {
        if (job.signal.aborted) return discard("was told to stop");
        return "ok";
      });
    });

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const [first, second] = await queue.enqueueMany(index, [1, 2]);
      await started.opened;
      await queue.cancel(first ?? "0");
      await cancelled.opened;

      assert.equal(await second?.result(), "ok");
      assert.equal(batchAborted, false);
      await seen("cancelled");
      await assert.rejects(async () => first?.result(), { code: "JOB_CANCELLED" });
    });
  });

  it("have one time limit for all, and their signal aborts with it", async () => {
    const timed = defineJob("timed", { timeout: 30, maxRetries: 0 });
    let reason: unknown;
    const handler = implementBatch(timed, async ({ signal }) => {
      await aborted(signal);
      reason = signal.reason;
      return undefined;
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const jobs = await queue.enqueueMany(timed, [1, 2, 3]);
      for (const job of jobs) await assert.rejects(job.result(), { message: /longer than 30 ms/ });
      assert.equal((reason as { code: string }).code, "JOB_TIMEOUT");
    });
  });
});
