import assert from "node:assert/strict";
import { it, test } from "node:test";
import pg from "pg";
import { fromPg } from "../../src/db/pg.ts";
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
import { gate } from "../worker/rig.ts";

const any = implement(defineJob("any"), () => undefined);

test("a pool of many queues and workers is listened to once", async () => {
  const pool = new pg.Pool();
  for (let n = 0; n < 20; n += 1) createQueue({ sql: pool });
  assert.deepEqual([pool.listenerCount("error"), pool.listenerCount("connect")], [1, 1]);
  await pool.end();
});

describeOnEachServer(
  "connections of our own beside a node-postgres pool",
  (context) => {
    it("are made when the pool was given its password apart", async () => {
      const url = new URL(context.db.url);
      const pool = new pg.Pool({
        host: url.hostname,
        port: Number(url.port),
        user: url.username,
        password: decodeURIComponent(url.password),
        database: url.pathname.slice(1),
      });
      const sql = fromPg(pool as never);
      const own = sql.dedicated?.();
      const over = new AbortController();
      try {
        assert.deepEqual(await own?.query("select 1 as one"), [{ one: 1 }]);
        const heard: string[] = [];
        const listening = await sql.listen?.(["there"], (payload) => heard.push(payload), {
          signal: over.signal,
        });
        await sql.query("select pg_notify('there', 'hello')");
        await eventually(() => heard.includes("hello"));
        over.abort();
        await listening?.ended;
      } finally {
        over.abort();
        await own?.close();
        await pool.end();
      }
    });

    it("keep no worker from stopping while they are being made", async () => {
      let held: Promise<void> | undefined;
      class SlowClient extends pg.Client {
        constructor(config?: pg.ClientConfig) {
          super(config);
          const connect = this.connect.bind(this) as (callback?: unknown) => unknown;
          this.connect = ((callback?: unknown) =>
            held ? held.then(() => connect(callback)) : connect(callback)) as never;
        }
      }
      const pool = new pg.Pool({
        connectionString: context.db.url,
        max: 4,
        Client: SlowClient as never,
      });
      const clients = await Promise.all([1, 2, 3, 4].map(() => pool.connect()));
      for (const client of clients) client.release();
      const letGo = gate();
      held = letGo.opened;
      const failures: string[] = [];
      const logger: Logger = { ...silentLogger, error: (event) => failures.push(event) };
      const worker = createWorker({ sql: pool, handlers: [any], logger });
      try {
        await worker.start();
        void worker.stop();
        await eventually(() => worker.state === "stopped", { timeoutMs: 5_000 });
      } finally {
        letGo.open();
      }
      assert.deepEqual(failures, []);
      await pool.end();
    });

    it("don't outlive a deadline that comes while they are being made", async () => {
      const letGo = gate();
      class StuckClient extends pg.Client {
        constructor(config?: pg.ClientConfig) {
          super(config);
          const connect = this.connect.bind(this) as () => Promise<unknown>;
          this.connect = (() => letGo.opened.then(connect)) as never;
        }
      }
      const pool = new pg.Pool({ connectionString: context.db.url, Client: StuckClient as never });
      const own = fromPg(pool as never).dedicated?.();
      const reason = new Error("too late");
      const over = new AbortController();
      let end: unknown;
      own?.query("select 1", [], { signal: over.signal }).catch((error: unknown) => {
        end = error;
      });
      over.abort(reason);
      try {
        await eventually(() => end !== undefined, { timeoutMs: 2_000 });
      } finally {
        letGo.open();
      }
      assert.equal(end, reason);
      await own?.close();
      await pool.end();
    });
  },
  { pooler: false },
);
