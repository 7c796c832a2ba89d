import assert from "node:assert/strict";
import { it, test } from "node:test";
import { defineJob, implement } from "../../src/index.ts";
import { ProgressReporter } from "../../src/worker/progress.ts";
import { fakeClock } from "../core/fake-clock.ts";
import { eventually } from "../support/eventually.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { gate, withWorker } from "./rig.ts";

test("progress is written at most twice a second, and of several reports the newest", async () => {
  const clock = fakeClock();
  const written: number[] = [];
  const reporter = new ProgressReporter(clock, async ({ percent }) => written.push(percent));

  reporter.report(1, undefined, undefined);
  reporter.report(2, undefined, undefined);
  reporter.report(3, undefined, undefined);
  await eventually(() => clock.timers === 1);
  assert.deepEqual(written, [1]);

  clock.advance(500);
  await eventually(() => clock.timers === 1);
  assert.deepEqual(written, [1, 3]);

  reporter.stop();
  assert.equal(clock.timers, 0);
});

test("percentages stay between 0 and 100, whatever was reported", async () => {
  const written: number[] = [];
  for (const percent of [-5, 250, Number.NaN, 42]) {
    new ProgressReporter(fakeClock(), async (news) => written.push(news.percent)).report(
      percent,
      undefined,
      undefined,
    );
  }
  assert.deepEqual(written, [0, 100, 0, 42]);
});

describeWithDatabase("progress", (context) => {
  it("can be seen while the job runs", async () => {
    const finish = gate();
    const job = defineJob("long");
    const handler = implement(job, async ({ progress }) => {
      progress(40, "rendering", { page: 4 });
      await finish.opened;
    });

    await withWorker(context.db, [handler], async ({ queue }) => {
      const enqueued = await queue.enqueue(job, {});
      const row = await eventually(async () => {
        const found = await queue.get(enqueued);
        return found.progress_percent === null ? undefined : found;
      });
      assert.equal(Number(row.progress_percent), 40);
      assert.equal(row.progress_message, "rendering");
      assert.deepEqual(row.progress_data, { page: 4 });
      finish.open();
      await enqueued.result();
    });
  });
});
