import assert from "node:assert/strict";
import { it } from "node:test";
import {
  defineJob,
  implement,
  type LogFields,
  type Logger,
  type Middleware,
} from "../../src/index.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

const job = defineJob("job", { maxRetries: 0 });

describeWithDatabase("around a handler", (context) => {
  it("middleware wraps every run; the first is the outermost", async () => {
    const steps: string[] = [];
    const named =
      (name: string): Middleware =>
      async ({ type }, next) => {
        steps.push(`${name} before ${type}`);
        const result = await next();
        steps.push(`${name} after ${result}`);
        return `${result}!`;
      };
    const handler = implement(job, () => "result");

    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        const enqueued = await queue.enqueue(job, {});
        assert.equal(await enqueued.result(), "result!!");
      },
      { middleware: [named("outer"), named("inner")] },
    );
    assert.deepEqual(steps, [
      "outer before job",
      "inner before job",
      "inner after result",
      "outer after result!",
    ]);
  });

  it("middleware sees what the handler throws, and may turn it into something else", async () => {
    const forgiving: Middleware = async (_context, next) => {
      try {
        return await next();
      } catch {
        return "forgiven";
      }
    };
    const handler = implement(job, () => {
      throw new Error("sin");
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        assert.equal(await (await queue.enqueue(job, {})).result(), "forgiven");
      },
      { middleware: [forgiving] },
    );
  });

  it("what happens is logged as events, and no payload or result is ever among them", async () => {
    const lines: [string, LogFields][] = [];
    const note = (event: string, fields: LogFields = {}): void => void lines.push([event, fields]);
    const logger: Logger = { debug: note, info: note, warn: note, error: note };
    const handler = implement(job, ({ log, input }) => {
      log.info("own.event", { more: 1 });
      if (input === "SECRET fail") throw new Error("reason");
      return "SECRET result";
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        await queue.enqueueMany(job, ["SECRET input", "SECRET fail"]);
        await seen("completed");
        await seen("failed");
      },
      { logger },
    );

    const events = lines.map(([event]) => event);
    for (const event of [
      "jobs.claimed",
      "job.started",
      "job.completed",
      "job.failed",
      "own.event",
    ]) {
      assert.ok(events.includes(event), event);
    }
    assert.doesNotMatch(JSON.stringify(lines), /SECRET/);
    const [, own] = lines.find(([event]) => event === "own.event") ?? [];
    assert.deepEqual(Object.keys(own ?? {}), ["jobId", "type", "attempt", "more"]);
  });

  it("a listener that throws does not stop the work", async () => {
    const handler = implement(job, () => "done");

    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        assert.equal(await (await queue.enqueue(job, {})).result(), "done");
      },
      {
        onEvent: () => {
          throw new Error("listener");
        },
      },
    );
  });
});
