/** What each kind of replication may lose, on two servers: docs/failover.md quotes the figures. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { splitStatements } from "../../src/db/split-statements.ts";
import { blocksOf } from "../docs/blocks.ts";
import { advance, registerWorker } from "../sql/worker-calls.ts";
import { connect, type TestSql } from "../support/connect.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { missingMajor } from "../support/majors.ts";
import { type OwnServer, startTestServer } from "../support/server.ts";
import { type Standby, startStandby } from "../support/standby.ts";

interface Pair {
  readonly primary: OwnServer;
  readonly standby: Standby;
  readonly db: TestDatabase;
  /** The same database on the standby. */
  readonly copy: TestSql;
}

const skip = missingMajor(15) ?? false;

async function startPair(): Promise<Pair> {
  const primary = await startTestServer(15);
  const db = await createTestDatabase(primary);
  const standby = await startStandby(primary);
  const address = new URL(db.superUrl);
  address.port = new URL(standby.superUrl).port;
  return { primary, standby, db, copy: connect(address.href, { max: 2 }) };
}

/** The primary is gone: only the standby is there, and its sessions. */
async function stopPair({ primary, standby, db, copy }: Pair): Promise<void> {
  await copy.end({ timeout: 1 });
  await standby.stop();
  await Promise.all([db.sql, db.superSql].map((pool) => pool.end({ timeout: 0 })));
  await primary.stop();
}

async function enqueue(sql: TestSql, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < count; n += 1) {
    const [row] = await sql<{ id: string }[]>`
      select public.enqueue_job('kept', ${{ n } as never}::jsonb)::text as id`;
    ids.push(row?.id ?? "");
  }
  return ids;
}

async function statuses(sql: TestSql, ids: readonly string[]): Promise<string[]> {
  const rows = await sql<{ status: string | null }[]>`
    select job.status::text as status from unnest(${[...ids]}::bigint[]) with ordinality as given (id, position)
    left join public.job_queue as job on job.id = given.id order by given.position`;
  return rows.map(({ status }) => status ?? "lost");
}

async function run(sql: TestSql, count: number): Promise<string[]> {
  const rows = await sql<{ id: string; lease: string }[]>`
    select id::text, lease_id::text as lease from public.get_next_job('w', '{kept}', ${count})`;
  for (const { id, lease } of rows) {
    await sql`select public.complete_job(${id}, null, ${lease}::bigint)`;
  }
  return rows.map(({ id }) => id);
}

/** So many jobs, each under a lease of its own. */
async function claimOneByOne(sql: TestSql, worker: number, count: number) {
  const held: { id: string; lease: string }[] = [];
  for (let n = 0; n < count; n += 1) {
    await sql`select public.enqueue_job('whole')`;
    const { jobs } = await advance(sql, worker, { limit: 1, types: ["whole"] });
    const [lease = "", id = ""] = jobs[0] ?? [];
    held.push({ id, lease });
  }
  return held;
}

async function reconciled(sql: TestSql): Promise<unknown> {
  const [row] = await sql`select queue.reconcile() as found`;
  return row?.["found"];
}

describe("a failover to an asynchronous standby", { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await startPair();
  });
  after(() => stopPair(pair));

  it("loses what it had not heard of, runs again what ended meanwhile, and gives no id again", async (t) => {
    const { primary, standby, db, copy } = pair;
    const kept = await enqueue(db.sql, 20);
    const [held] = await db.sql<{ id: string; lease: string }[]>`
      select id::text, lease_id::text as lease from public.get_next_job('survivor', '{kept}', 1)`;
    const worker = await registerWorker(db.sql, "long-lived");
    await db.sql`select queue.intern_type('whole')`;
    await standby.caughtUp();

    await standby.halt();
    const unheard = await enqueue(db.sql, 30);
    const ended = await run(db.sql, 5);
    // More than the ids that a sequence logs ahead.
    const before = await claimOneByOne(db.sql, worker, 40);
    const others = await Promise.all(["b", "c"].map((name) => registerWorker(db.sql, name)));
    await primary.stop();
    await standby.start();
    await standby.promote();

    assert.deepEqual(
      await statuses(copy, unheard),
      unheard.map(() => "lost"),
    );
    assert.deepEqual(
      await statuses(copy, kept),
      kept.map((id) => (id === held?.id ? "processing" : "pending")),
    );
    // The lease that the standby had heard of holds: its worker goes on.
    const [told] = await copy`
      select public.complete_job(${held?.id ?? ""}, null, ${held?.lease ?? ""}::bigint) as done`;
    assert.equal(told?.["done"], true);
    // What it claimed afterwards is nobody's now: no lease of that time means another job, no worker's number another worker.
    const after = await claimOneByOne(copy, worker, 40);
    const settled = await advance(copy, worker, {
      whole: before.map(({ lease }) => ({ lease, ms: [5] })),
    });
    assert.deepEqual(
      settled.lost,
      before.map(({ lease }) => lease),
    );
    assert.deepEqual(
      await statuses(
        copy,
        after.map(({ id }) => id),
      ),
      after.map(() => "processing"),
    );
    assert.ok(!others.includes(await registerWorker(copy, "d")));
    const own = await advance(copy, worker, {
      whole: after.map(({ lease }) => ({ lease, ms: [5] })),
    });
    assert.equal(own.lost, null);
    const fresh = await enqueue(copy, 40);
    assert.deepEqual(
      fresh.filter((id) => unheard.includes(id)),
      [],
    );
    const again = await run(copy, 1_000);
    assert.deepEqual(
      again.sort(),
      [...kept.filter((id) => id !== held?.id), ...fresh].sort(),
      "every job that is there runs, once",
    );
    const twice = ended.filter((id) => again.includes(id));
    assert.deepEqual(twice, ended);
    assert.deepEqual(await reconciled(copy), []);
    const [last] = await copy`
      select cause, timeline from queue.generations order by first_lease_id desc limit 1`;
    assert.deepEqual({ ...last }, { cause: "promotion", timeline: 2 });
    t.diagnostic(
      `${unheard.length} of ${kept.length + unheard.length} acknowledged jobs lost, ${twice.length} of ${ended.length} ended ones run again`,
    );
  });
});

describe("a failover to a synchronous standby", { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await startPair();
    await waitForStandby();
  });
  after(() => stopPair(pair));

  /** From now on a commit waits for the standby. */
  async function waitForStandby(): Promise<void> {
    await pair.db.superSql`alter system set synchronous_standby_names = '*'`;
    await pair.db.superSql`select pg_reload_conf()`;
    await eventually(async () => {
      const [copy] = await pair.db.superSql`select sync_state from pg_stat_replication`;
      return copy?.["sync_state"] === "sync";
    });
  }

  /** Enqueues a job while the standby is away; resolves when that waits, with what ends the wait. */
  async function enqueueInVain(): Promise<{ isAcknowledged(): boolean; end: Promise<void> }> {
    const hung = pair.db.connect({ max: 1 });
    let isAcknowledged = false;
    const end = hung`select public.enqueue_job('kept')`.then(
      () => {
        isAcknowledged = true;
      },
      () => undefined,
    );
    await eventually(async () => {
      const waiting = await pair.db
        .superSql`select from pg_stat_activity where wait_event = 'SyncRep'`;
      return waiting.length > 0;
    });
    return { isAcknowledged: () => isAcknowledged, end };
  }

  it("shows at once on the standby what was acknowledged with remote_apply", async () => {
    const { db, copy } = pair;
    const careful = connect(db.url, { max: 1, connection: { synchronous_commit: "remote_apply" } });
    try {
      for (let n = 0; n < 20; n += 1) {
        const ids = await enqueue(careful, 1);
        assert.deepEqual(await statuses(copy, ids), ["pending"]);
      }
    } finally {
      await careful.end();
    }
  });

  it("is given up as docs/failover.md says: then jobs are acknowledged again", async () => {
    const { standby, db } = pair;
    const [giveUp] = await blocksOf("docs/failover.md", "sql");
    await standby.halt("immediate");
    const late = await enqueueInVain();
    assert.equal(late.isAcknowledged(), false);

    // As psql sends them: ALTER SYSTEM must not stand in a transaction.
    for (const statement of splitStatements(giveUp?.code ?? "")) {
      await db.superSql.unsafe(statement);
    }
    await late.end;

    assert.equal(late.isAcknowledged(), true);
    await standby.start();
    await waitForStandby();
  });

  it("loses nothing that was acknowledged; without the standby nothing is acknowledged, and health says so", async (t) => {
    const { primary, standby, db, copy } = pair;
    const kept = await enqueue(db.sql, 20);
    const ended = await run(db.sql, 5);

    await standby.halt("immediate");
    const late = await enqueueInVain();
    // Commits of this session wait for nobody: it looks, and moves the clock.
    const looker = connect(db.superUrl, {
      max: 1,
      connection: { synchronous_commit: "local" },
    });
    try {
      await looker`update test.clock set skew = skew + interval '6 seconds'`;
      const [health] = await looker<{ codes: string[] }[]>`
        select array(select problem ->> 'code' from jsonb_array_elements(public.queue_health() -> 'problems') as problem) as codes`;
      assert.ok(health?.codes.includes("replication_stalled"), String(health?.codes));
      assert.equal(late.isAcknowledged(), false);
    } finally {
      await looker.end({ timeout: 1 });
    }
    await primary.stop();
    await late.end;
    await standby.start();
    await standby.promote();

    assert.equal(late.isAcknowledged(), false);
    assert.deepEqual(
      await statuses(copy, kept),
      kept.map((id) => (ended.includes(id) ? "completed" : "pending")),
    );
    assert.deepEqual(await reconciled(copy), []);
    t.diagnostic(`0 of ${kept.length} acknowledged jobs lost`);
  });
});
