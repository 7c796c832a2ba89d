import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import pg from "pg";
import postgres from "postgres";
import { turn } from "../../src/core/turn.ts";
import { fromPg } from "../../src/db/pg.ts";
import { connect, fromPostgresJs } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, defineJob, type Queue } from "../../src/index.ts";
import { fakeClock } from "../core/fake-clock.ts";
import { eventually } from "../support/eventually.ts";
import { startFaultyProxy } from "../support/faulty-proxy.ts";
import { describeWithDatabase } from "../support/suite.ts";

const plain = defineJob<unknown, void>("plain");

describeWithDatabase("calls that get no answer", (context) => {
  let sql: Sql;
  let queue: Queue;
  before(async () => {
    sql = connect(context.db.url, { max: 4 });
    queue = createQueue({ sql });
    await queue.enqueue(plain, {});
  });
  after(() => sql.close());

  /** Runs `work` while somebody holds everything locked. */
  async function whileLocked(work: () => Promise<void>): Promise<void> {
    await context.db.superSql.begin(async (tx) => {
      await tx`lock table queue.jobs, queue.runs, queue.queues in access exclusive mode`;
      await work();
    });
  }

  const calls: Record<
    string,
    (options: { timeoutMs?: number; signal?: AbortSignal }) => Promise<unknown>
  > = {
    enqueue: (options) => queue.enqueue(plain, {}, options),
    "enqueue with a key": (options) =>
      queue.enqueue(plain, {}, { ...options, idempotencyKey: "k" }),
    enqueueMany: (options) => queue.enqueueMany(plain, [{}, {}], options),
    "enqueueMany with options for each": (options) =>
      queue.enqueueMany(plain, [{}], () => ({ priority: "high" }), options),
    flow: (options) => queue.flow((flow) => flow.add(plain, {}), options),
    "enqueue in a transaction": (options) =>
      sql.transaction((tx) => queue.with(tx).enqueue(plain, {}, options)),
    get: (options) => queue.get("1", options),
    list: (options) => queue.list({}, options),
    cancel: (options) => queue.cancel("1", options),
    retry: (options) => queue.retry("1", options),
    redrive: (options) => queue.redrive({ type: "plain" }, options),
    stats: (options) => queue.stats(undefined, options),
    health: (options) => queue.health(options),
  };

  for (const [name, call] of Object.entries(calls)) {
    it(`end in time, and say that nobody knows: ${name}`, async () => {
      await whileLocked(async () => {
        await assert.rejects(call({ timeoutMs: 150 }), {
          code: "DATABASE_TIMEOUT",
          timeoutMs: 150,
          message: /not known/,
          hint: /idempotencyKey/,
        });
        const controller = new AbortController();
        const aborted = assert.rejects(call({ signal: controller.signal }), /enough/);
        setImmediate(() => controller.abort(new Error("enough")));
        await aborted;
      });
    });
  }

  it("refuse a limit that is none", async () => {
    for (const timeoutMs of [0, -1, 1.5, Number.NaN, Infinity]) {
      await assert.rejects(async () => queue.enqueue(plain, {}, { timeoutMs }), {
        code: "INVALID_OPTION",
        option: "timeoutMs",
      });
    }
  });

  it("hold up no later call of their kind, and are given up when nobody waits any more", async () => {
    const asked: AbortSignal[] = [];
    let isDeaf = true;
    const wrapped = createQueue({
      sql: {
        ...sql,
        query(text, params, options) {
          if (!isDeaf) return sql.query(text, params, options);
          asked.push(options?.signal as AbortSignal);
          return new Promise((_, reject) =>
            options?.signal?.addEventListener("abort", () => reject(options.signal?.reason)),
          );
        },
      } satisfies Sql,
    });
    const hung = assert.rejects(wrapped.enqueue(plain, {}, { timeoutMs: 700 }), {
      code: "DATABASE_TIMEOUT",
    });
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    isDeaf = false;
    const began = performance.now();
    const later = await wrapped.enqueue(plain, {});

    assert.equal(later.outcome, "created");
    assert.ok(performance.now() - began < 500);
    await hung;
    assert.equal(asked.length, 1);
    assert.equal(asked[0]?.aborted, true);
  });

  it("say of a job that was never sent that it was not", async () => {
    let sent = 0;
    const deaf: Sql = {
      ...sql,
      query() {
        sent += 1;
        return new Promise(() => undefined);
      },
    };
    const clock = fakeClock();
    const silent = createQueue({ sql: deaf, clock });
    const codes: string[] = [];
    const enqueue = (timeoutMs: number): void =>
      void silent
        .enqueue(plain, {}, { timeoutMs })
        .catch((error: { code: string }) => codes.push(`${timeoutMs} ${error.code}`));
    // Four calls at a time.
    for (const timeoutMs of [1_501, 1_502, 1_503, 1_504]) {
      const before = sent;
      enqueue(timeoutMs);
      await eventually(() => sent === before + 1);
      clock.advance(150);
    }
    for (const timeoutMs of [401, 402]) {
      enqueue(timeoutMs);
      // It waits from the next turn of the event loop on.
      await turn();
      clock.advance(150);
    }
    assert.deepEqual(codes, []);
    clock.advance(1_500);

    await eventually(() => codes.length === 6);
    assert.deepEqual(codes, [
      "401 DATABASE_UNREACHABLE",
      "402 DATABASE_UNREACHABLE",
      "1501 DATABASE_TIMEOUT",
      "1502 DATABASE_TIMEOUT",
      "1503 DATABASE_TIMEOUT",
      "1504 DATABASE_TIMEOUT",
    ]);
    assert.equal(sent, 4);
  });
});

describeWithDatabase(
  "waiting for a result",
  (context) => {
    const kinds = {
      "connect()": (url: string) => connect(url),
      "a node-postgres pool": (url: string) =>
        fromPg(new pg.Pool({ connectionString: url, allowExitOnIdle: true }) as never),
      "a postgres.js client": (url: string) =>
        fromPostgresJs(postgres(url, { max: 4, fetch_types: false }) as never),
    };
    for (const [name, open] of Object.entries(kinds)) {
      it(`asks again on another connection when one falls silent, with ${name}`, async () => {
        const proxy = await startFaultyProxy(context.db.url);
        const sql = open(proxy.url);
        const queue = createQueue({ sql });
        const direct = createQueue({ sql: context.db.sql });
        try {
          const job = await queue.enqueue(plain, {});
          proxy.swallow();
          await direct.cancel(job);

          const began = performance.now();
          await assert.rejects(job.result({ timeoutMs: 20_000 }), { code: "JOB_CANCELLED" });
          assert.ok(performance.now() - began < 12_000);
        } finally {
          await proxy.close();
          await sql.close();
        }
      });
    }
  },
  { pooler: false, atOnce: "tests" },
);
