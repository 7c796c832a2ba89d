import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, defineJob, type Queue } from "../../src/index.ts";
import { describeOnEachServer } from "../support/suite.ts";

const job = defineJob<unknown>("odd.options");

/** What a program without types can pass. */
const odd = <T>(value: unknown): T => value as T;

/** What Postgres can't keep, or a driver would turn into some text. */
const NO_TEXTS: readonly unknown[] = ["a\u0000b", "\ud800", 12, 12n, true, {}, ["a"], Symbol("a")];

describeOnEachServer("options that can't be kept as they are", (context) => {
  let sql: Sql;
  let queue: Queue;
  before(() => {
    sql = connect(context.db.url);
    queue = createQueue({ sql });
  });
  after(() => sql.close());

  const refuses = async (option: string, ...calls: (() => Promise<unknown>)[]): Promise<void> => {
    for (const call of calls) {
      await assert.rejects(call, { code: "INVALID_OPTION", option }, String(call));
    }
  };

  it("texts are refused by name, wherever they are passed, and nothing is made", async () => {
    for (const value of NO_TEXTS) {
      const text = odd<string>(value);
      for (const option of ["tenantId", "queue", "idempotencyKey"]) {
        await refuses(
          option,
          () => queue.enqueue(job, 1, { [option]: text }),
          () => queue.enqueueMany(job, [1], { [option]: text }),
          () => queue.flow((flow) => flow.add(job, 1, { [option]: text })),
          () => sql.transaction((tx) => queue.with(tx.driver).enqueue(job, 1, { [option]: text })),
        );
      }
      await refuses("type", async () => defineJob(text));
      await refuses("queue", async () => defineJob("odd.queue", { queue: text }));
      for (const option of ["status", "type", "queue", "tenantId"]) {
        await refuses(option, () => queue.list({ [option]: text }));
      }
      for (const option of ["type", "tenantId", "fingerprint", "reason"]) {
        await refuses(
          option,
          () => queue.redrive({ [option]: text }),
          () => queue.purge({ [option]: text }),
        );
      }
      await refuses(
        "queue",
        () => queue.pause(text),
        () => queue.resume(text),
        () => queue.stats(text),
      );
      await refuses(
        "reason",
        () => queue.cancel("1", { reason: text }),
        () => queue.retry("1", { reason: text }),
        () => queue.pause("odd.options", { reason: text }),
      );
    }
    await refuses(
      "queue",
      () => queue.pause(odd(undefined)),
      () => queue.resume(odd(undefined)),
    );
    assert.deepEqual(await queue.list(), []);
  });

  it("two keys that only a driver takes for one make no job, rather than one", async () => {
    await refuses(
      "[1].idempotencyKey",
      () =>
        queue.enqueueMany(job, [1, 2], (_, at) => ({ idempotencyKey: at === 0 ? "a" : "\udfff" })),
      () => queue.enqueueMany(job, [1, 2], (_, at) => ({ idempotencyKey: at ? odd({}) : "a" })),
    );
    await refuses("[1].maxRetries", () =>
      queue.enqueueMany(job, [1, 2], (_, at) => ({ maxRetries: -at })),
    );
    assert.deepEqual(await queue.list(), []);
  });

  it("times, words and lists of the wrong kind are refused by name", async () => {
    for (const at of [0, "", "2026-01-01", new Date(Number.NaN), {}]) {
      await refuses("at", () => queue.enqueue(job, 1, { at: odd(at) }));
    }
    await refuses("delay", () => queue.enqueue(job, 1, { at: odd(0), delay: 1 }));
    for (const word of ["", 0, "retry", true]) {
      await refuses("onKeyConflict", () => queue.enqueue(job, 1, { onKeyConflict: odd(word) }));
      await refuses("onParentFailure", () => queue.enqueue(job, 1, { onParentFailure: odd(word) }));
    }
    for (const backoff of ["fast", [], 5]) {
      await refuses("backoff", () => queue.enqueue(job, 1, { backoff: odd(backoff) }));
    }
    await refuses("backoff.jitter", () =>
      queue.enqueue(job, 1, { backoff: { jitter: odd("0.5") } }),
    );
    for (const list of ["12", { id: "1" }]) {
      await refuses("dependsOn", () => queue.enqueue(job, 1, { dependsOn: odd(list) }));
      await refuses("ids", () => queue.purge({ ids: odd(list) }));
    }
    await refuses(
      "dependsOn[1]",
      () => queue.enqueue(job, 1, { dependsOn: ["1", odd(2)] }),
      // biome-ignore lint/suspicious/noSparseArray: what is tested.
      () => queue.enqueue(job, 1, { dependsOn: odd(["1", ,]) }),
    );
    await refuses("after", () => queue.flow((flow) => flow.add(job, 1, { after: odd(null) })));
    for (const time of [new Date(Number.NaN), new Date(8.64e15), "2026-01-01"]) {
      await refuses(
        "failedBefore",
        () => queue.redrive({ failedBefore: odd(time) }),
        () => queue.purge({ failedBefore: odd(time) }),
      );
    }
    await refuses("inputs", () => queue.enqueueMany(job, odd("abc")));
    await refuses(
      "job",
      () => queue.enqueue(odd<typeof job>(undefined), 1),
      () => queue.enqueueMany(odd<typeof job>(undefined), []),
      () => queue.flow((flow) => flow.add(odd<typeof job>(undefined), 1)),
    );
    await assert.rejects(queue.get(odd(5)), /must be the id of a job, got 5/);
    assert.deepEqual(await queue.list(), []);
  });
});
