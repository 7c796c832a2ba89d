import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import {
  createWorker,
  defineJob,
  implement,
  type JobReference,
  silentLogger,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { gate, withWorker } from "./rig.ts";

/** Counts how many handlers run at a time. */
function meter(): { enter(): void; leave(): void; readonly most: number } {
  let now = 0;
  let most = 0;
  return {
    enter() {
      now += 1;
      most = Math.max(most, now);
    },
    leave() {
      now -= 1;
    },
    get most() {
      return most;
    },
  };
}

describeWithDatabase("the queues of a worker", (context) => {
  it("each have their own number of slots, and a full one holds up no other", async () => {
    const finish = gate();
    const mail = defineJob("mail");
    const other = defineJob("other");
    const mails = meter();
    const handlers = [
      implement(mail, async () => {
        mails.enter();
        await finish.opened;
        mails.leave();
      }),
      implement(other, () => "quick"),
    ];

    await withWorker(
      context.db,
      handlers,
      async ({ queue, seen }) => {
        const blocked = await queue.enqueueMany(mail, Array(10).fill({}));
        await seen("started", 2);
        const quick = await queue.enqueueMany(other, Array(20).fill({}));
        for (const job of quick) assert.equal(await job.result(), "quick");
        assert.equal(mails.most, 2);
        finish.open();
        for (const job of blocked) await job.result();
        assert.equal(mails.most, 2);
      },
      { queues: { mail: 2, "*": 5 } },
    );
  });

  it("are served by nobody when they are not named and there is no *", async () => {
    const job = defineJob("only-mail");
    const handler = implement(job, () => "done");

    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        const elsewhere = await queue.enqueue(job, {}, { queue: "elsewhere" });
        const inMail = await queue.enqueue(job, {}, { queue: "post" });
        assert.equal(await inMail.result(), "done");
        assert.equal((await queue.get(elsewhere)).status, "pending");
        await queue.cancel(elsewhere);
      },
      { queues: { post: 1 } },
    );
  });

  it("never run more handlers at a time than they have slots, however much was fetched ahead", async () => {
    const busy = meter();
    const job = defineJob("metered");
    const handler = implement(job, async () => {
      busy.enter();
      await Promise.resolve();
      busy.leave();
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        await queue.enqueueMany(job, Array(1_500).fill({}));
        await seen("completed", 1_500);
        assert.equal(busy.most, 3);
      },
      { concurrency: 3 },
    );
  });

  it("give back what they fetched ahead when a long job shows that it would wait too long", async () => {
    const finish = gate();
    const job = defineJob("deceptive");
    const handler = implement(job, ({ input }) => (input === "long" ? finish.opened : undefined));

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen, worker }) => {
        await queue.enqueueMany(job, Array(100).fill("short"));
        await seen("completed", 100);
        const [long, ...others] = await queue.enqueueMany(job, ["long", "short", "short", "short"]);
        assert.ok(long);
        const helperSql = connect(context.db.url);
        const helper = createWorker({
          sql: helperSql,
          handlers: [handler],
          logger: silentLogger,
          concurrency: 1,
        });
        await seen("released", 3);
        await helper.start();
        for (const other of others) await other.result();
        assert.equal(worker.running, 1);
        finish.open();
        await long.result();
        await helper.stop();
        await helperSql.close();
      },
      { concurrency: 1 },
    );
  });

  it("run jobs of a higher priority first", async () => {
    const order: string[] = [];
    const job = defineJob("ranked");
    const handler = implement(job, ({ input }) => void order.push(String(input)));
    const sql = connect(context.db.url);
    const worker = createWorker({
      sql,
      handlers: [handler],
      logger: silentLogger,
      concurrency: 1,
      prefetch: 0,
    });

    await context.db.sql`select public.enqueue_job('ranked', '"low"', 'low')`;
    await context.db.sql`select public.enqueue_job('ranked', '"critical"', 'critical')`;
    await context.db.sql`select public.enqueue_job('ranked', '"normal"')`;
    await worker.drain();

    assert.deepEqual(order, ["critical", "normal", "low"]);
    await sql.close();
  });
});

describeWithDatabase("draining", (context) => {
  it("ends when nothing is left that could run now; what is scheduled stays", async () => {
    const job = defineJob("once");
    const sql = connect(context.db.url);
    const done: unknown[] = [];
    const worker = createWorker({
      sql,
      handlers: [implement(job, ({ input }) => void done.push(input))],
      logger: silentLogger,
    });
    await context.db
      .sql`select public.enqueue_job('once', to_jsonb(n)) from generate_series(1, 2500) as n`;
    await context.db
      .sql`select public.enqueue_job('once', '0', p_scheduled_at => now() + interval '1 hour')`;

    await worker.drain();

    assert.equal(done.length, 2_500);
    assert.equal(worker.state, "stopped");
    const left = await context.db
      .superSql`select status from public.job_queue where type = 'once' and status <> 'completed'`;
    assert.deepEqual(
      left.map((row) => row["status"]),
      ["scheduled"],
    );
    await sql.close();
  });

  it("follows what handlers enqueue, in whatever queue", async () => {
    const sql = connect(context.db.url);
    const { createQueue } = await import("../../src/index.ts");
    const queue = createQueue({ sql });
    const link = defineJob("link");
    let calls = 0;
    const handler = implement(link, async ({ input }) => {
      calls += 1;
      const left = Number(input);
      if (left > 0) await queue.enqueue(link, left - 1, { queue: left % 2 === 0 ? "even" : "odd" });
    });
    await queue.enqueue(link, 20);
    const worker = createWorker({
      sql,
      handlers: [handler],
      logger: silentLogger,
      queues: { even: 1, "*": 1 },
    });

    await worker.drain();

    assert.equal(calls, 21);
    await sql.close();
  });

  it("until empty waits for retries, for blocked jobs, and for what falls due soon; not for next week", async () => {
    const sql = connect(context.db.url);
    const { createQueue } = await import("../../src/index.ts");
    const queue = createQueue({ sql });
    const flaky = defineJob("flaky-once", { backoff: { base: 50, jitter: 0 } });
    const after = defineJob("after");
    const handlers = [
      implement(flaky, ({ attempt }) => {
        if (attempt.number < 3) throw new Error("not yet");
      }),
      implement(after, () => undefined),
    ];
    const parent = await queue.enqueue(flaky, {});
    const child = await queue.enqueue(after, {}, { dependsOn: [parent] });
    const soon = await queue.enqueue(after, {}, { delay: 100 });
    const nextWeek = await queue.enqueue(after, {}, { delay: "7d" });
    const worker = createWorker({ sql, handlers, logger: silentLogger });

    await worker.drain({ until: "empty", horizonMs: 60_000 });

    const status = async (job: JobReference): Promise<string> => (await queue.get(job)).status;
    assert.deepEqual(await Promise.all([parent, child, soon, nextWeek].map(status)), [
      "completed",
      "completed",
      "completed",
      "scheduled",
    ]);
    await queue.cancel(nextWeek);
    await sql.close();
  });

  it("ends early when its signal aborts", async () => {
    const sql = connect(context.db.url);
    const controller = new AbortController();
    const job = defineJob("endless");
    await context.db.sql`select public.enqueue_job('endless')`;
    const handler = implement(job, async ({ signal }) => {
      controller.abort();
      await eventually(() => signal.aborted);
      throw signal.reason;
    });
    const worker = createWorker({
      sql,
      handlers: [handler],
      logger: silentLogger,
      shutdownTimeoutMs: 0,
    });

    await worker.drain({ until: "empty", signal: controller.signal });

    assert.equal(worker.state, "stopped");
    const [row] = await context.db
      .superSql`select status from public.job_queue where type = 'endless'`;
    assert.equal(row?.["status"], "pending");
    await sql.close();
  });
});
