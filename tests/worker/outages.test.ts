import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import type { TestDatabase } from "../support/database.ts";
import { createTestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { startTestServer } from "../support/server.ts";
import { describeOnEachServer, describeWithDatabase } from "../support/suite.ts";
import { gate, withWorker } from "./rig.ts";

const task = defineJob("task", { maxRetries: 0 });

/** Cuts every connection of the worker, as often as asked. */
async function cut(db: TestDatabase): Promise<void> {
  await db.superSql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'millrace'`;
}

describeOnEachServer("when the database goes away", (context) => {
  it("the worker comes back by itself and works on; what finished meanwhile is written", async () => {
    const started = gate();
    const finish = gate();
    const handler = implement(task, async ({ input }) => {
      if (input !== "slow") return "quick";
      started.open();
      await finish.opened;
      return "slow";
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        const slow = await queue.enqueue(task, "slow");
        await started.opened;

        await cut(context.db);
        finish.open();

        assert.equal(await slow.result(), "slow");
        const quick = await eventually(() => queue.enqueue(task, "quick"));
        assert.equal(await quick.result(), "quick");
        assert.equal((await seen("completed", 2)).length, 2);
      },
      { leaseMs: 30_000 },
    );
  });

  it("jobs run through although connections are cut again and again; none is lost, none settled twice", async () => {
    const runs = new Map<string, number>();
    const handler = implement(defineJob("hardy", { maxRetries: 0 }), async ({ id }) => {
      runs.set(id, (runs.get(id) ?? 0) + 1);
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        const jobs = await queue.enqueueMany(handler.job, Array(2_000).fill({}));
        for (let round = 0; round < 10; round += 1) {
          await cut(context.db);
          await eventually(
            async () => (await queue.list({ type: "hardy", limit: 1 })).length === 1,
          );
        }
        await eventually(
          async () => {
            const [left] = await context.db.superSql`
            select count(*)::integer as n from public.job_queue where type = 'hardy' and status <> 'completed'`;
            return left?.["n"] === 0;
          },
          { timeoutMs: 60_000 },
        );
        assert.equal(runs.size, jobs.length);
        const [ends] = await context.db.superSql`
          select count(*)::integer as n from queue.runs as run join queue.jobs as job on job.id = run.job_id
          join queue.types as type on type.id = job.type_id
          where type.name = 'hardy' and run.outcome = 'completed'`;
        assert.equal(ends?.["n"], jobs.length);
      },
      { leaseMs: 30_000 },
    );
  });

  it("a lock that blocks the queue for a while does no harm", async () => {
    const handler = implement(task, () => "done");

    await withWorker(context.db, [handler], async ({ queue, events }) => {
      const blocker = context.db.superSql.begin(async (tx) => {
        await tx`lock table queue.leases in access exclusive mode`;
        await tx`select pg_sleep(1)`;
      });
      const job = await queue.enqueue(task, {});
      await blocker;
      assert.equal(await job.result(), "done");
      assert.equal(events.filter((event) => event.kind === "lost").length, 0);
    });
  });
});

describeWithDatabase("starting a worker", (context) => {
  it("tells in one error that nothing answers", async () => {
    const sql = connect("postgres://127.0.0.1:1/none");
    const worker = createWorker({
      sql,
      handlers: [implement(task, () => undefined)],
      logger: silentLogger,
    });

    await assert.rejects(worker.start(), { code: "DATABASE_UNREACHABLE" });
    assert.equal(worker.state, "stopped");
    await sql.close();
  });

  it("is given up when the worker is stopped, although the server has not said a word", async () => {
    const silent = createServer().listen(0, "127.0.0.1");
    await once(silent, "listening");
    const sql = connect(`postgres://127.0.0.1:${(silent.address() as AddressInfo).port}/none`);
    const worker = createWorker({
      sql,
      handlers: [implement(task, () => undefined)],
      logger: silentLogger,
    });

    const refused = assert.rejects(worker.start(), { code: "WORKER_STATE" });
    await once(silent, "connection");
    await worker.stop({ timeoutMs: 0 });
    await refused;
    assert.equal(worker.state, "stopped");
    silent.close();
    void sql.close();
  });

  it("tells in one error that the schema is not the one it knows", async () => {
    const empty = await createTestDatabase(context.db.server, { empty: true });
    const sql = connect(empty.url);
    const worker = createWorker({
      sql,
      handlers: [implement(task, () => undefined)],
      logger: silentLogger,
    });

    await assert.rejects(worker.start(), {
      code: "SCHEMA_VERSION",
      found: null,
      hint: /migrate up/,
    });
    await sql.close();
    await empty.close();
  });

  it("starts on a newer schema as long as that one serves its version", async () => {
    const db = await createTestDatabase(context.db.server);
    const plant = (name: string, value: number) =>
      db.sql.unsafe(
        `create or replace function queue.${name}() returns integer language sql as 'select ${value}'`,
      );
    const sql = connect(db.url);
    const make = () =>
      createWorker({
        sql,
        handlers: [implement(task, () => "done")],
        logger: silentLogger,
      });
    await plant("schema_version", 2);
    const worker = make();

    await worker.start();
    const job = await createQueue({ sql }).enqueue(task, {});
    const result = await job.result();
    await worker.stop();
    await plant("serves_version", 2);
    const refused = assert.rejects(make().start(), {
      code: "SCHEMA_VERSION",
      found: 2,
      hint: /Update/,
    });

    await refused;
    assert.equal(result, "done");
    await sql.close();
    await db.close();
  });
});

it("a worker survives a crash and restart of Postgres, and gets back what it had in hand", async () => {
  const server = await startTestServer(15);
  try {
    const db = await createTestDatabase(server);
    const started = gate();
    const finish = gate();
    const handler = implement(task, async ({ input }) => {
      if (input !== "slow") return "quick";
      started.open();
      await finish.opened;
      return "slow";
    });
    await withWorker(
      db,
      [handler],
      async ({ queue, seen }) => {
        const slow = await queue.enqueue(task, "slow");
        await started.opened;

        await server.crashAndRestart();
        finish.open();

        assert.equal(await slow.result(), "slow");
        await seen("reconnected");
        const quick = await eventually(() => queue.enqueue(task, "quick"));
        assert.equal(await quick.result(), "quick");
      },
      { leaseMs: 30_000 },
    );
    await db.close();
  } finally {
    await server.stop();
  }
});
