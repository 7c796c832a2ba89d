import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import { createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { aborted, gate, withWorker } from "./rig.ts";

const task = defineJob("task", { maxRetries: 0 });

describeOnEachServer("stopping a worker", (context) => {
  it("waits for handlers that run, and writes what they return", async () => {
    const started = gate();
    const finish = gate();
    const handler = implement(task, async () => {
      started.open();
      await finish.opened;
      return "finished";
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, worker, status }) => {
        const job = await queue.enqueue(task, {});
        await started.opened;

        const stopping = worker.stop({ timeoutMs: 60_000 });
        assert.equal(worker.state, "stopping");
        finish.open();
        assert.deepEqual(await stopping, { released: 0 });

        assert.equal(worker.state, "stopped");
        assert.equal(await status(job), "completed");
      },
      { shutdownTimeoutMs: 60_000 },
    );
  });

  it("gives back what it fetched ahead, with the attempt, at once", async () => {
    const finish = gate();
    const mixed = defineJob("mixed", { maxRetries: 0 });
    const handler = implement(mixed, ({ input }) => (input === "slow" ? finish.opened : undefined));

    await withWorker(
      context.db,
      [handler],
      async ({ queue, worker, seen }) => {
        // Quick jobs teach the worker to fetch ahead.
        await queue.enqueueMany(mixed, Array(50).fill("quick"));
        await seen("completed", 50);
        const slow = await queue.enqueueMany(mixed, Array(4).fill("slow"));
        await seen("started", 51);

        const stopping = worker.stop({ timeoutMs: 60_000 });
        await eventually(async () => {
          const rows = await queue.list({ status: "pending" });
          return rows.length === 3 && rows.every((row) => row.attempts === 0);
        });
        finish.open();

        assert.deepEqual(await stopping, { released: 3 });
        for (const job of slow) await queue.cancel(job);
      },
      { concurrency: 1, shutdownTimeoutMs: 60_000, leaseMs: 60_000 },
    );
  });

  it("aborts handlers when the time is over, and gives their jobs back with the attempt", async () => {
    const started = gate();
    let reason: unknown;
    const handler = implement(defineJob("abortable", { maxRetries: 1 }), async ({ signal }) => {
      started.open();
      await aborted(signal);
      reason = signal.reason;
      throw new Error("interrupted");
    });

    await withWorker(context.db, [handler], async ({ queue, worker, seen }) => {
      const job = await queue.enqueue(handler.job, {});
      await started.opened;

      assert.deepEqual(await worker.stop({ timeoutMs: 0 }), { released: 1 });

      assert.equal((reason as { code: string }).code, "SHUTDOWN");
      await seen("released");
      const { status, attempts } = await queue.get(job);
      assert.deepEqual({ status, attempts }, { status: "pending", attempts: 0 });
    });
  });

  it("does not wait for a handler that ignores its signal; its job is given back all the same", async () => {
    const started = gate();
    const finish = gate();
    const handler = implement(defineJob("deaf", { maxRetries: 1 }), async () => {
      started.open();
      await finish.opened;
      return "too late";
    });

    await withWorker(context.db, [handler], async ({ queue, worker }) => {
      const job = await queue.enqueue(handler.job, {});
      await started.opened;

      await worker.stop({ timeoutMs: 0 });
      assert.equal((await queue.get(job)).status, "pending");

      finish.open();
      await Promise.resolve();
      assert.equal((await queue.get(job)).status, "pending");
    });
  });

  it("a job that may run only once does not begin twice: it fails when its handler is cut short", async () => {
    const started = [gate(), gate()];
    const runs: unknown[] = [];
    const only = defineJob("only", { maxRetries: 0 });
    const handler = implement(only, async ({ input, signal }) => {
      runs.push(input);
      started[Number(input)]?.open();
      if (input === 0) await aborted(signal);
      else await new Promise(() => undefined);
      throw new Error("interrupted");
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, worker, seen }) => {
        const heeding = await queue.enqueue(only, 0);
        const deaf = await queue.enqueue(only, 1);
        await Promise.all(started.map(({ opened }) => opened));

        assert.deepEqual(await worker.stop({ timeoutMs: 0 }), { released: 0 });

        const ends = await seen("failed", 2);
        assert.deepEqual(
          ends.map(({ error }) => [error.name, error.code]),
          Array(2).fill(["ShutdownError", "SHUTDOWN"]),
        );
        const [first] = ends.filter(({ job }) => job.id === heeding.id);
        assert.equal(first?.error.cause?.message, "interrupted");
        for (const job of [heeding, deaf]) {
          const { status, attempts } = await queue.get(job);
          assert.deepEqual({ status, attempts }, { status: "failed", attempts: 1 });
        }
        const dead = await context.db.superSql`
          select last_error from public.job_dead_letter where id in (${heeding.id}, ${deaf.id})`;
        assert.equal(dead.length, 2);
        assert.match(dead[0]?.["last_error"], /may run only once/);
      },
      { concurrency: 2 },
    );
    await withWorker(context.db, [handler], async ({ queue, worker }) => {
      await queue.enqueue(only, 2);
      await eventually(() => runs.includes(2));
      await worker.stop({ timeoutMs: 0 });
    });
    assert.deepEqual(runs.toSorted(), [0, 1, 2]);
  });

  it("a job that may run only once is given back when only its input was looked at", async () => {
    const looking = gate();
    const slow = defineJob("slow-look", {
      maxRetries: 0,
      input: {
        "~standard": {
          version: 1,
          vendor: "test",
          validate: async () => {
            looking.open();
            return new Promise<never>(() => undefined);
          },
        },
      },
    });
    const handler = implement(slow, () => assert.fail("not begun"));

    await withWorker(context.db, [handler], async ({ worker }) => {
      const [row] = await context.db.sql`select public.enqueue_job('slow-look') as id`;
      await looking.opened;
      assert.deepEqual(await worker.stop({ timeoutMs: 0 }), { released: 1 });
      const [job] = await context.db.superSql`
        select status, attempts from public.job_queue where id = ${row?.["id"]}`;
      assert.deepEqual({ ...job }, { status: "pending", attempts: 0 });
    });
  });

  it("a second call with less patience shortens the first one's", async () => {
    const started = gate();
    const handler = implement(defineJob("hurried", { maxRetries: 1 }), async ({ signal }) => {
      started.open();
      await aborted(signal);
      throw signal.reason;
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, worker }) => {
        const job = await queue.enqueue(handler.job, {});
        await started.opened;
        const patient = worker.stop({ timeoutMs: 3_600_000 });
        const hurried = worker.stop({ timeoutMs: 0 });
        assert.deepEqual(await patient, await hurried);
        assert.equal((await queue.get(job)).status, "pending");
      },
      { shutdownTimeoutMs: 3_600_000 },
    );
  });

  it("leases are extended until the last handler has ended", async () => {
    const started = gate();
    const finish = gate();
    const handler = implement(defineJob("long", { maxRetries: 0 }), async () => {
      started.open();
      await finish.opened;
      return "done";
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, worker, status }) => {
        const job = await queue.enqueue(handler.job, {});
        await started.opened;
        const stopping = worker.stop({ timeoutMs: 60_000 });
        const [lease] = await context.db.superSql`select id, expires_at from queue.leases`;
        await eventually(async () => {
          const [now] = await context.db
            .superSql`select expires_at from queue.leases where id = ${lease?.["id"]}`;
          return now?.["expires_at"] > lease?.["expires_at"];
        });
        finish.open();
        await stopping;
        assert.equal(await status(job), "completed");
      },
      { shutdownTimeoutMs: 60_000 },
    );
  });

  it("signs out, so that nobody counts on it any more", async () => {
    await withWorker(context.db, [implement(task, () => undefined)], async ({ queue, worker }) => {
      await eventually(async () => (await queue.health()).live_workers === 1);
      await worker.stop();
      assert.equal((await queue.health()).live_workers, 0);
    });
  });

  it("run() works until its signal aborts, and ends when all is put in order", async () => {
    const sql = connect(context.db.url);
    const controller = new AbortController();
    const worker = createWorker({
      sql,
      handlers: [implement(task, () => undefined)],
      logger: silentLogger,
    });
    assert.equal(worker.state, "new");

    const running = worker.run({ signal: controller.signal });
    await eventually(() => worker.state === "running");
    controller.abort();
    await running;

    assert.equal(worker.state, "stopped");
    await assert.rejects(worker.start(), { code: "WORKER_STATE" });
    await sql.close();
  });

  it("stopping twice, or before the start, is fine", async () => {
    const sql = connect(context.db.url);
    const worker = createWorker({
      sql,
      handlers: [implement(task, () => undefined)],
      logger: silentLogger,
    });

    await Promise.all([worker.stop(), worker.stop()]);

    assert.equal(worker.state, "stopped");
    await sql.close();
  });
});
