import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { randomFrom } from "../crash/plan.ts";
import { createTestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { startFaultyProxy } from "../support/faulty-proxy.ts";
import { missingMajor } from "../support/majors.ts";
import { pgbouncerMissing, startPgBouncer } from "../support/pgbouncer.ts";
import { startTestServer } from "../support/server.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { gate } from "./rig.ts";

/** What Supavisor says when it has no connection, or lost one. */
const CLOSED = { code: "XX000", message: "Database connection closed" };

describeWithDatabase(
  "a pooler that ends connections with errors of its own",
  (context) => {
    it("costs no job its end and no attempt", { skip: pgbouncerMissing }, async () => {
      const bouncer = await startPgBouncer(context.db);
      const proxy = await startFaultyProxy(bouncer.url);
      const sql = connect(proxy.url, { pooled: true });
      const job = defineJob("hardy", { maxRetries: 3 });
      const begun = new Map<string, number>();
      const worker = createWorker({
        sql,
        handlers: [
          implement(job, async ({ id }) => {
            begun.set(id, (begun.get(id) ?? 0) + 1);
            await new Promise((resolve) => setTimeout(resolve, 20));
            return id;
          }),
        ],
        logger: silentLogger,
        leaseMs: 5_000,
        pollIntervalMs: 100,
      });
      const direct = createQueue({ sql: context.db.sql });
      const random = randomFrom(7);
      try {
        const jobs = await direct.enqueueMany(job, Array(300).fill({}));
        await worker.start();
        // So that refusals take their time, as those of a pooler that is far away.
        proxy.delay(3);
        let isDone = false;
        const faults = (async () => {
          while (!isDone) {
            // An outage: requests on open connections, and new connections, end with its error.
            proxy.failNew(random() < 0.5 ? CLOSED : { ...CLOSED, isFromPooler: false });
            proxy.failRequests(CLOSED);
            await new Promise((resolve) => setTimeout(resolve, 150 + random() * 250));
            proxy.failNew(undefined);
            await new Promise((resolve) => setTimeout(resolve, 300 + random() * 400));
          }
        })();
        const outcomes = await Promise.allSettled(
          jobs.map((one) => one.result({ timeoutMs: 60_000 })),
        );
        isDone = true;
        await faults;

        assert.deepEqual(
          outcomes.map((one) => (one.status === "fulfilled" ? one.value : one.reason)),
          jobs.map(({ id }) => id),
        );
        const dead = await context.db.sql`select * from public.job_dead_letter`;
        assert.equal(dead.length, 0);
        const charged = await context.db.sql`
            select id, attempts from public.job_queue where type = 'hardy' and attempts > 1`;
        assert.deepEqual([...charged], []);
      } finally {
        await worker.stop();
        await sql.close();
        await proxy.close();
        await bouncer.stop();
      }
    });
  },
  { pooler: false },
);

it(
  "jobs whose transactions find no connection for a while lose no attempt",
  { skip: missingMajor(15) ?? false },
  async () => {
    const server = await startTestServer(15, { max_connections: 20 });
    const db = await createTestDatabase(server);
    const sql = connect(db.url, { maxTransactions: 10 });
    const job = defineJob("paying", { maxRetries: 1, backoff: { base: "100ms" } });
    const effects: string[] = [];
    const snoozed: string[] = [];
    const worker = createWorker({
      sql,
      handlers: [
        implement(job, ({ id, commitWith }) =>
          commitWith(async (tx) => {
            await tx.query("select 1");
            effects.push(id);
          }).catch((cause: unknown) => {
            throw new Error("paying failed", { cause });
          }),
        ),
      ],
      concurrency: 10,
      logger: silentLogger,
      onEvent: (event) => {
        if (event.kind === "snoozed") snoozed.push(event.job.id);
      },
    });
    // The superuser has connections that nobody else can use up.
    const queue = createQueue({ sql: db.superSql });
    // All that the server still has, but for those that this worker holds already.
    const guests = connect(db.url, { max: 1, maxTransactions: 30 });
    try {
      await worker.start();
      await sql.query("select 1");
      const release = gate();
      const held = Array.from({ length: 30 }, () =>
        guests.transaction(() => release.opened).catch((error: { code: string }) => error.code),
      );
      await eventually(async () => {
        const [row] = await db.superSql`select count(*)::integer as n from pg_stat_activity
          where backend_type = 'client backend'`;
        return (row?.["n"] ?? 0) >= 17;
      });
      const jobs = await queue.enqueueMany(job, Array(40).fill({}));
      await eventually(() => snoozed.length >= 10);
      release.open();
      await Promise.all(held);
      await guests.close();

      await eventually(async () => effects.length === 40, { timeoutMs: 30_000 });
      await Promise.all(jobs.map((one) => one.result()));
      assert.deepEqual(effects.toSorted(), jobs.map(({ id }) => id).toSorted());
      const rows = await db.superSql`select attempts from public.job_queue where type = 'paying'`;
      assert.ok(rows.every((row) => row["attempts"] === 1));
    } finally {
      await worker.stop();
      await Promise.all([sql.close(), guests.close()]);
      await db.close();
      await server.stop();
    }
  },
);
