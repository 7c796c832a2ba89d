import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import pg from "pg";
import { fromPg } from "../../src/db/pg.ts";
import { connect } from "../../src/db/postgres-js.ts";
import {
  createQueue,
  createWorker,
  defineJob,
  type EnqueuedJob,
  implement,
  silentLogger,
} from "../../src/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { missingMajor } from "../support/majors.ts";
import { type OwnServer, startTestServer } from "../support/server.ts";
import { type Standby, startStandby } from "../support/standby.ts";
import { gate } from "./rig.ts";

const skip = missingMajor(15) ?? false;
const task = defineJob<unknown, string>("task");

/** The same database on all of these servers, in this order. */
function addressOf(db: TestDatabase, ...servers: readonly { superUrl: string }[]): string {
  const own = new URL(db.url);
  const hosts = servers.map(({ superUrl }) => new URL(superUrl).host).join(",");
  return `postgres://${own.username}:${own.password}@${hosts}${own.pathname}`;
}

describe("an address with several servers", { skip }, () => {
  let primary: OwnServer;
  let standby: Standby;
  let db: TestDatabase;
  before(async () => {
    primary = await startTestServer(15);
    standby = await startStandby(primary);
    db = await createTestDatabase(primary);
    await standby.caughtUp();
  });
  after(async () => {
    await standby.stop();
    await primary.stop();
  });

  for (const attributes of ["", "?target_session_attrs=any", "?target_session_attrs=read-write"]) {
    it(`means the primary, though a standby comes first (${attributes})`, async () => {
      const sql = connect(addressOf(db, standby, primary) + attributes);
      const [row] = await sql.query("select pg_is_in_recovery()::text as standby");
      assert.equal(row?.["standby"], "false");
      const made = await createQueue({ sql }).enqueue(task, {});
      assert.equal(made.outcome, "created");
      await sql.close();
    });
  }

  it("is refused while none of them takes writes, with a word on each", async () => {
    const sql = connect(`${addressOf(db, standby)}?target_session_attrs=primary`);
    await assert.rejects(sql.query("select 1"), {
      code: "DATABASE_UNREACHABLE",
      message: /it is a standby, which takes no writes/,
    });
    await sql.close();
  });

  it("of a standby alone answers what only reads, and tells an enqueue as an outage", async () => {
    const sql = connect(addressOf(db, standby));
    const queue = createQueue({ sql });
    assert.deepEqual(await queue.list({ type: "nothing" }), []);
    for (const options of [{}, { delay: "1h" as const }, { idempotencyKey: "x" }]) {
      await assert.rejects(queue.enqueue(task, {}, options), { code: "DATABASE_UNREACHABLE" });
    }
    await assert.rejects(queue.enqueueMany(task, [{}, {}]), { code: "DATABASE_UNREACHABLE" });
    await sql.close();
  });

  it("leads to the new primary within two seconds of its being there; nothing runs twice", async () => {
    const url = addressOf(db, primary, standby);
    const [worked, produced] = [connect(url), connect(url)];
    const begun: string[] = [];
    const worker = createWorker({
      sql: worked,
      handlers: [
        implement(task, ({ id }) => {
          begun.push(id);
          return "done";
        }),
      ],
      logger: silentLogger,
      leaseMs: 5_000,
    });
    const queue = createQueue({ sql: produced });
    try {
      await worker.start();
      await (await queue.enqueue(task, {})).result();
      await standby.caughtUp();

      await primary.stop();
      await standby.promote();
      const promotedAt = performance.now();

      const made: EnqueuedJob<string> = await eventually(() => queue.enqueue(task, {}));
      assert.equal(await made.result(), "done");
      const tookMs = performance.now() - promotedAt;
      assert.ok(tookMs < 2_500, `${tookMs} ms`);
      assert.equal(new Set(begun).size, begun.length);
    } finally {
      await worker.stop();
      await Promise.all([worked.close(), produced.close()]);
    }
  });
});

describe("a primary whose synchronous standby is gone", { skip }, () => {
  let server: OwnServer;
  let db: TestDatabase;
  before(async () => {
    server = await startTestServer(15);
    db = await createTestDatabase(server);
    await db.superSql`create table probe ()`;
  });
  after(() => server.stop());

  /** Returns when commits mind it, which is some time after the setting is there. */
  async function setStandbys(names: "" | "nobody"): Promise<void> {
    await db.superSql.unsafe(`alter system set synchronous_standby_names = '${names}'`);
    await db.superSql`select pg_reload_conf()`;
    await eventually(async () => {
      let isHeld = true;
      const commit = db.superSql`insert into probe default values`.then(() => {
        isHeld = false;
      });
      await eventually(async () => !isHeld || (await waiting()) > 0);
      const wasHeld = isHeld;
      if (names !== "" && isHeld) await breakOff();
      await commit;
      return wasHeld === (names !== "");
    });
  }

  async function breakOff(): Promise<void> {
    await db.superSql`
      select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`;
  }

  async function waiting(): Promise<number> {
    const [row] = await db.superSql`
      select count(*)::integer as n from pg_stat_activity where wait_event = 'SyncRep'`;
    return row?.["n"] ?? 0;
  }

  it("lets no call wait without end, leaves no session behind, and acknowledges nothing that may be lost", async () => {
    const sql = connect(db.url);
    const queue = createQueue({ sql });
    await queue.enqueue(task, {});
    await setStandbys("nobody");
    try {
      for (let round = 0; round < 5; round += 1) {
        const calls = [
          queue.enqueue(task, {}, { timeoutMs: 500 }),
          queue.enqueueMany(task, [{}, {}], { timeoutMs: 500 }),
          queue.enqueue(task, {}, { timeoutMs: 500, idempotencyKey: `k${round}` }),
        ];
        await Promise.all(calls.map((call) => assert.rejects(call, { code: "DATABASE_TIMEOUT" })));
      }
      await eventually(async () => (await waiting()) === 0);
    } finally {
      await setStandbys("");
      await sql.close();
    }
  });

  const kinds = {
    "connect()": () => connect(db.url),
    "a node-postgres pool": () =>
      fromPg(new pg.Pool({ connectionString: db.url, allowExitOnIdle: true }) as never),
  };
  for (const [name, open] of Object.entries(kinds)) {
    it(`whose wait is broken off by hand is told as not known, never as done, with ${name}`, async () => {
      const sql = open();
      const queue = createQueue({ sql });
      await queue.enqueue(task, {});
      await setStandbys("nobody");
      try {
        for (const call of [
          () => queue.enqueue(task, {}),
          () => sql.transaction((tx) => queue.with(tx).enqueue(task, {})),
        ]) {
          const broken = assert.rejects(call(), {
            code: "DATABASE_TIMEOUT",
            message: /no standby has confirmed it/,
          });
          await eventually(async () => (await waiting()) > 0);
          await breakOff();
          await broken;
        }
        await setStandbys("");
        // The next call on the same connection is not told so.
        await queue.enqueue(task, {});
      } finally {
        await setStandbys("");
        await sql.close();
      }
    });
  }

  it("keeps the ends of jobs in their worker until they can be written", async () => {
    const sql = connect(db.url);
    const queue = createQueue({ sql });
    const runs: string[] = [];
    const hardy = defineJob<unknown, string>("hardy");
    const held = gate();
    const worker = createWorker({
      sql,
      handlers: [
        implement(hardy, async ({ id }) => {
          runs.push(id);
          await held.opened;
          return id;
        }),
      ],
      logger: silentLogger,
      leaseMs: 30_000,
    });
    try {
      await worker.start();
      const jobs = await queue.enqueueMany(hardy, Array(5).fill({}));
      await eventually(() => runs.length === 5);
      await setStandbys("nobody");
      held.open();
      await eventually(async () => (await waiting()) > 0);
      await setStandbys("");

      const answers = await Promise.all(jobs.map((one) => one.result()));
      assert.deepEqual(
        answers,
        jobs.map(({ id }) => id),
      );
      assert.equal(runs.length, 5);
    } finally {
      await setStandbys("");
      await worker.stop();
      await sql.close();
    }
  });
});
