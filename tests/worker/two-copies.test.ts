import assert from "node:assert/strict";
import { cp, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { pathToFileURL } from "node:url";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

type Library = typeof import("../../src/index.ts");
type Connecting = typeof import("../../src/db/postgres-js.ts");
type Errors = typeof import("../../src/core/database-errors.ts");

/** As in a monorepo where two packages bring a copy of the library each. */
describeWithDatabase("two copies of the package", (context) => {
  let folder = "";
  let other: Library;
  let connecting: Connecting;
  let errors: Errors;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "millrace-copy-"));
    const root = join(import.meta.dirname, "..", "..");
    await cp(join(root, "src"), join(folder, "src"), { recursive: true });
    await cp(join(root, "package.json"), join(folder, "package.json"));
    await symlink(join(root, "node_modules"), join(folder, "node_modules"));
    const load = (file: string): Promise<unknown> =>
      import(pathToFileURL(join(folder, "src", file)).href);
    other = (await load("index.ts")) as Library;
    connecting = (await load("db/postgres-js.ts")) as Connecting;
    errors = (await load("core/database-errors.ts")) as Errors;
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it("understand each other's outcomes", async () => {
    const job = defineJob("mixed", { maxRetries: 3, backoff: { base: 10, jitter: 0 } });
    assert.notEqual(other.snooze, undefined);
    const ends: Readonly<Record<string, (attempt: number) => unknown>> = {
      snooze: (attempt) => (attempt === 1 ? other.snooze("1h", "later") : undefined),
      discard: () => other.discard(new Error("never")),
      fail: () => other.fail(new Error("down"), { retryable: false }),
      throw: () => {
        throw other.discard("thrown");
      },
    };
    const handler = implement(job, ({ input, attempt }) => ends[String(input)]?.(attempt.number));

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      const jobs = await queue.enqueueMany(job, Object.keys(ends));
      await seen("snoozed");
      assert.deepEqual((await seen("discarded", 2)).map(({ reason }) => reason).toSorted(), [
        "Error: never",
        "thrown",
      ]);
      await seen("failed");
      const states = await Promise.all(jobs.map(async (each) => (await queue.get(each)).status));
      assert.deepEqual(states, ["scheduled", "failed", "failed", "failed"]);
    });
  });

  it("understand each other's errors", async () => {
    const error = new other.LeaseLostError("1");
    const { hasCode, isQueueError } = await import("../../src/core/errors.ts");
    assert.equal(error instanceof Error, true);
    assert.deepEqual(
      [isQueueError(error), hasCode(error, "LEASE_LOST"), hasCode(error, "SHUTDOWN")],
      [true, true, false],
    );
    assert.equal(isQueueError(Object.assign(new Error("x"), { code: "LEASE_LOST" })), false);
    assert.deepEqual(Object.keys(error).includes("code"), true);
  });

  it("wait out an outage that the connection of the other copy tells of", async () => {
    const inner = connecting.connect(context.db.url);
    let isAway = true;
    const sql: typeof inner = {
      ...inner,
      query: async (text, params, options) => {
        if (isAway && text.includes("queue.advance")) {
          isAway = false;
          throw new other.DatabaseUnreachableError("there", "it went away");
        }
        return inner.query(text, params, options);
      },
    };
    const job = defineJob("outlasting");
    const kinds: string[] = [];
    const worker = createWorker({
      sql,
      handlers: [implement(job, () => "done")],
      logger: silentLogger,
      onEvent: (event) => kinds.push(event.kind),
    });
    try {
      await worker.start();
      await eventually(() => kinds.includes("reconnected"));
      const queue = other.createQueue({ sql: inner });
      const made = await queue.enqueue(job as never, {});
      assert.equal(await made.result(), "done");
    } finally {
      await worker.stop();
      await inner.close();
    }
  });

  it("take a statement that was cut short, or lost a race, for no outage", async () => {
    const inner = connecting.connect(context.db.url);
    const { QueueSqlError } = errors;
    const faults = ["57014", "40001"];
    const sql: typeof inner = {
      ...inner,
      query: async (text, params, options) => {
        const isClaim = text.includes("queue.advance") || text.includes("queue.enqueue_one");
        const sqlstate = isClaim ? faults.shift() : undefined;
        if (sqlstate !== undefined) throw new QueueSqlError(sqlstate, "cut short");
        return inner.query(text, params, options);
      },
    };
    const job = defineJob("racing");
    const kinds: string[] = [];
    const worker = createWorker({
      sql,
      handlers: [implement(job, () => "done")],
      logger: silentLogger,
      onEvent: (event) => kinds.push(event.kind),
    });
    const queue = createQueue({ sql });
    try {
      await worker.start();
      await eventually(() => faults.length < 2);
      await eventually(() => faults.length === 0);
      faults.push("40001");
      const made = await queue.enqueue(job, {});
      assert.equal(await made.result(), "done");
      assert.equal(kinds.includes("disconnected"), false);
    } finally {
      await worker.stop();
      await inner.close();
    }
  });
});
