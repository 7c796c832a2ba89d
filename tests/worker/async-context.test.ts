import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { defineJob, implement, implementBatch, silentLogger } from "../../src/index.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

const job = defineJob<string | null>("tenant", { maxRetries: 0 });
const many = defineJob<string | null>("tenants", { maxRetries: 0 });

describeWithDatabase("the async context of a handler", (context) => {
  it("is empty, whatever others, the starter or a logger left in theirs", async () => {
    const tenant = new AsyncLocalStorage<string>();
    const found: unknown[] = [];
    const afterwards: unknown[] = [];
    const handlers = [
      implement(job, async ({ input }) => {
        found.push(tenant.getStore());
        if (input !== null) tenant.enterWith(input);
        await delay(1);
        afterwards.push([input, tenant.getStore()]);
      }),
      implementBatch(
        many,
        ({ jobs }) => {
          found.push(tenant.getStore());
          tenant.enterWith(String(jobs[0]?.input));
          return undefined;
        },
        { maxSize: 1 },
      ),
    ];
    await tenant.run("the starter", () =>
      withWorker(
        context.db,
        handlers,
        async ({ queue, seen }) => {
          const inputs = ["globex", null, "acme", null, null, "initech", null];
          for (const input of inputs) await (await queue.enqueue(job, input)).result();
          await queue.enqueueMany(job, [...inputs, ...inputs]);
          await queue.enqueueMany(many, ["a", "b", "c"]);
          await seen("completed", inputs.length * 3 + 3);
          assert.deepEqual(
            found,
            found.map(() => undefined),
          );
          for (const [input, store] of afterwards as [string | null, unknown][]) {
            assert.equal(store, input ?? undefined, "its own is its own");
          }
        },
        { concurrency: 1, logger: { ...silentLogger, info: () => tenant.enterWith("a logger") } },
      ),
    );
  });
});
