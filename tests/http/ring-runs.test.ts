/** Runs that were rung for: no job that came at the wrong moment is left to the tick. */
import assert from "node:assert/strict";
import { after, before, beforeEach, it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import {
  createQueueWorker,
  defineJob,
  implement,
  type QueueWorker,
  type QueueWorkerOptions,
} from "../../src/http/index.ts";
import { createQueue, type Queue, silentLogger } from "../../src/index.ts";
import { isArmed, posts, reset, SECRETS } from "../sql/edge-rig.ts";
import { installNet, installVault } from "../sql/supabase-stubs.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { clockAt } from "./clock-at.ts";

const work = defineJob("work");
const handlers = [implement(work, () => null)];

describeWithDatabase("a run that was rung for", (context) => {
  let sql: Sql;
  let queue: Queue;
  before(async () => {
    await installNet(context.db);
    await installVault(context.db, SECRETS);
    sql = connect(context.db.url, { max: 2, maxTransactions: 1, pooled: context.isPooled });
    queue = createQueue({ sql });
  });
  beforeEach(() => reset(context.db));
  after(() => sql.close());

  /** Rings, and waits until what was begun by that has ended. */
  interface Rung {
    readonly worker: QueueWorker;
    ring(body?: Readonly<Record<string, unknown>>): Promise<unknown>;
    ended(): Promise<void>;
  }

  function rung(options: Partial<QueueWorkerOptions> = {}): Rung {
    const kept: Promise<unknown>[] = [];
    const worker = createQueueWorker({
      sql,
      handlers,
      keys: { serviceTokens: [], secretKeys: [], doorbellTokens: ["token"] },
      logger: silentLogger,
      waitUntil: (running) => kept.push(running),
      ...options,
    });
    return {
      worker,
      async ring(body = {}) {
        const request = new Request("http://worker.test/queue-worker", {
          method: "POST",
          headers: { authorization: "Bearer token" },
          body: JSON.stringify({ async: true, ...body }),
        });
        return (await worker.fetch(request)).json();
      },
      async ended() {
        for (let work = kept.pop(); work; work = kept.pop()) await work;
      },
    };
  }

  /** The database, with something that happens after statements have run and before their answers are there. */
  function watched(onAnswer: (statement: string) => Promise<unknown> | undefined): Sql {
    return {
      ...sql,
      query: async (statement, params, options) => {
        const rows = await sql.query(statement, params, options);
        await onAnswer(statement);
        return rows;
      },
    };
  }

  /** The same for the first statement that contains a text. */
  function watchedOnce(text: string, act: () => Promise<unknown>): Sql {
    let isDone = false;
    return watched((statement) => {
      if (isDone || !statement.includes(text)) return undefined;
      isDone = true;
      return act();
    });
  }

  /** A job of a type that takes longer than an isolate lives which has ten seconds. */
  async function oneThatNobodyCanHave(): Promise<Required<Pick<QueueWorkerOptions, "handlers">>> {
    const slow = defineJob("slow");
    const both = [...handlers, implement(slow, () => null)];
    const { ring, ended } = rung({ handlers: both });
    const { id } = await queue.enqueue(slow, {});
    await ring();
    await ended();
    await context.db.superSql`
      update queue.runs set started_at = finished_at - interval '20 seconds' where job_id = ${id}`;
    await reset(context.db);
    await queue.enqueue(slow, {});
    return { handlers: both };
  }

  const pending = async (): Promise<number> =>
    (await context.db.superSql`select from queue.ready`).length;

  it("arms the bell again that a job took between its arming and the last look", async () => {
    const { ring, ended } = rung({
      sql: watchedOnce("arm_edge_bell", () => queue.enqueue(work, {})),
    });

    await ring();
    await ended();

    assert.deepEqual([await pending(), await isArmed(context.db)], [0, true]);
  });

  it("looks once more for whoever rang while it looked for the last time", async () => {
    const answers: unknown[] = [];
    let isLast = false;
    const { ring, ended } = rung({
      sql: watched(async (statement) => {
        if (isLast && statement.includes("work_due")) {
          isLast = false;
          await queue.enqueue(work, {});
          answers.push(await ring());
        } else if (answers.length === 0) isLast = statement.includes("arm_edge_bell") || isLast;
      }),
    });

    await ring();
    await ended();

    assert.deepEqual(answers, [{ accepted: true, joined: true }]);
    assert.deepEqual([await pending(), await isArmed(context.db)], [0, true]);
  });

  it("is not joined when it looks no more", async () => {
    const { handlers: both } = await oneThatNobodyCanHave();
    await queue.enqueue(work, {});
    const answers: unknown[] = [];
    const { ring, ended } = rung({
      handlers: both,
      lifeMs: 10_000,
      clock: clockAt(2_000),
      sql: watchedOnce("trigger_worker", async () => answers.push(await ring())),
    });

    await ring();
    await ended();

    assert.deepEqual(answers, [{ accepted: true }]);
  });

  it("does not join a run that takes no more than some of the jobs", async () => {
    for (const _ of [1, 2, 3]) await queue.enqueue(work, {});
    const { ring, ended } = rung();

    const answers = [await ring({ maxJobs: 1 }), await ring()];
    await ended();

    assert.deepEqual(answers, [{ accepted: true }, { accepted: true }]);
    assert.equal(await pending(), 0);
  });

  it("arms the bell beside a job that nobody can have", async () => {
    const { handlers: both } = await oneThatNobodyCanHave();
    const { ring, ended } = rung({ handlers: both, lifeMs: 10_000, clock: clockAt(2_000) });

    await ring();
    await ended();

    assert.deepEqual([await pending(), await isArmed(context.db)], [1, true]);
  });

  it("rings for what it gave back when its isolate ends", async () => {
    let begin: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const hold = implement(work, ({ signal }) => {
      begin();
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
      });
    });
    await queue.enqueue(work, {});
    await posts(context.db);
    const { ring, worker } = rung({ handlers: [hold] });
    await ring();
    await begun;

    await worker.release();

    assert.deepEqual([await pending(), await posts(context.db)], [1, 1]);
  });

  it("ends well when its isolate ends before it has begun", async () => {
    await queue.enqueue(work, {});
    const errors: unknown[] = [];
    const { worker, ring, ended } = rung({
      logger: { ...silentLogger, error: (message) => errors.push(message) },
      sql: watchedOnce("register_worker", async () => void worker.release()),
    });

    await ring();
    await ended();

    assert.deepEqual(errors, []);
    assert.deepEqual([await pending(), await posts(context.db)], [1, 1]);
  });
});
