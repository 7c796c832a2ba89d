import assert from "node:assert/strict";
import { it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { defineJob, implement } from "../../src/index.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

describeWithDatabase("a worker with many queues", (context) => {
  it("gives the runtime no cause to warn of leaks", async () => {
    const warnings: string[] = [];
    const note = (warning: Error): void => void warnings.push(`${warning.name} ${warning.message}`);
    process.on("warning", note);
    const job = defineJob("warned");
    const queues = Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`warned.${n}`, 2]));

    await withWorker(
      context.db,
      [implement(job, () => turn())],
      async ({ queue }) => {
        const jobs = await Promise.all(
          Object.keys(queues).map((name) => queue.enqueue(job, {}, { queue: name })),
        );
        await Promise.all(jobs.map((one) => one.result()));
      },
      { queues },
    );
    await turn();
    process.off("warning", note);

    assert.deepEqual(warnings, []);
  });
});
