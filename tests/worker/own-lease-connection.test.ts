import assert from "node:assert/strict";
import { it } from "node:test";
import pg from "pg";
import postgres from "postgres";
import { connect } from "../../src/db/postgres-js.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  implement,
  type Logger,
  silentLogger,
} from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";

const JOBS = 5;
/** Longer than the lease, which is a second. */
const HELD = "select pg_sleep(2)";

describeOnEachServer(
  "handlers that use up all connections of their pool for longer than a lease",
  (context) => {
    const kinds = {
      "a node-postgres pool": () => {
        const pool = new pg.Pool({ connectionString: context.db.url, max: JOBS });
        return { handle: pool, hold: () => pool.query(HELD), close: () => pool.end() };
      },
      "a postgres.js client": () => {
        const sql = postgres(context.db.url, {
          max: JOBS,
          onnotice: () => undefined,
          prepare: false,
        });
        return { handle: sql, hold: () => sql.unsafe(HELD), close: () => sql.end({ timeout: 1 }) };
      },
      "connect()": () => {
        const sql = connect(context.db.url, { max: JOBS });
        return { handle: sql, hold: () => sql.query(HELD), close: () => sql.close() };
      },
    };

    for (const [name, open] of Object.entries(kinds)) {
      it(`run once each, with ${name}`, async () => {
        const { handle, hold, close } = open();
        const job = defineJob(`hold.${name.replaceAll(/\W/g, "")}`);
        const begun: string[] = [];
        const events: string[] = [];
        const worker = createWorker({
          sql: handle,
          handlers: [
            implement(job, async ({ id }) => {
              begun.push(id);
              await hold();
            }),
          ],
          concurrency: JOBS,
          leaseMs: 1_000,
          logger: silentLogger,
          onEvent: ({ kind }) => events.push(kind),
        });
        const queue = createQueue({ sql: context.db.sql });
        const jobs = await queue.enqueueMany(job, Array(JOBS).fill({}));
        try {
          await worker.start();
          await Promise.all(jobs.map((one) => one.result()));
        } finally {
          await worker.stop();
          await close();
        }
        assert.deepEqual(begun.toSorted(), jobs.map(({ id }) => id).toSorted());
        assert.ok(!events.includes("lost"));
        for (const one of jobs) assert.equal((await queue.get(one)).attempts, 1);
      });
    }
  },
);

describeOnEachServer(
  "a worker that can't have a connection of its own",
  (context) => {
    const addresses: Readonly<Record<string, () => string>> = {
      "nobody answers": () => "postgres://127.0.0.1:1/none",
      "it is refused": () => {
        const url = new URL(context.db.url);
        url.password = "wrong";
        return url.href;
      },
    };
    for (const [why, address] of Object.entries(addresses)) {
      it(`keeps its leases by the shared ones, and says so once, when ${why}`, async () => {
        const shared = connect(context.db.url);
        const warnings: string[] = [];
        const logger: Logger = { ...silentLogger, warn: (name) => void warnings.push(name) };
        const job = defineJob(`shared.${why.replaceAll(" ", "-")}`);
        const refused = connect(address());
        const worker = createWorker({
          sql: { ...shared, dedicated: () => refused },
          handlers: [
            implement(job, async () => {
              await shared.query(HELD);
            }),
          ],
          leaseMs: 1_000,
          logger,
        });
        const queue = createQueue({ sql: shared });
        try {
          await worker.start();
          const one = await queue.enqueue(job, {});
          await one.result();
          assert.equal((await queue.get(one)).attempts, 1);
          await eventually(() => warnings.length > 0);
          assert.deepEqual(warnings, ["worker.lifeline_failed"]);
        } finally {
          await worker.stop();
          await shared.close();
        }
      });
    }
  },
  { atOnce: "tests" },
);
