import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  checkClockSkew,
  checkDurability,
  checkNotifications,
  checkVersion,
} from "../../src/cli/doctor/server-checks.ts";
import { oldSnapshots } from "../../src/db/inspect-queue.ts";
import type { ServerFacts } from "../../src/db/inspect-server.ts";
import { connect } from "../../src/db/postgres-js.ts";
import { pgbouncerMissing, startPgBouncer } from "../support/pgbouncer.ts";
import { describeWithDatabase, withDatabase } from "../support/suite.ts";
import { type CliRun, cli } from "./run.ts";

interface Finding {
  readonly check: string;
  readonly severity: string;
  readonly message: string;
  readonly reason: string | null;
  readonly fix: string | null;
}

describeWithDatabase("millrace doctor", (context) => {
  const doctor = (...argv: string[]): Promise<CliRun> =>
    cli(["doctor", ...argv], { env: { DATABASE_URL: context.db.url } });

  const finding = async (check: string, url = context.db.url): Promise<Finding | undefined> => {
    const run = await cli(["doctor", "--json"], { env: { DATABASE_URL: url } });
    return run.json<{ findings: Finding[] }>().findings.find((one) => one.check === check);
  };

  it("looks at everything, each with its severity", async () => {
    const text = await doctor();
    const json = await doctor("--json");

    const { status, findings } = json.json<{ status: string; findings: Finding[] }>();
    assert.deepEqual(
      findings.map((one) => one.check),
      [
        "reachable",
        "credentials",
        "version",
        "durability",
        "replication",
        "clock",
        "listen",
        "notifications",
        "snapshots",
        "autovacuum",
        "schema",
        "migrations",
        "privileges",
        "records",
        "start",
        "workers",
        "handlers",
        "leases",
        "partitions",
        "doorbell",
        "rings",
        "cron",
      ],
    );
    // Tests run without fsync, and their template was filled by other means than migrate.
    const unwell = findings
      .filter((one) => one.severity !== "ok" && one.severity !== "skipped")
      .map((one) => one.check);
    assert.deepEqual(unwell, ["durability", "migrations"], JSON.stringify(findings));
    assert.deepEqual([json.code, status], [1, "warning"]);
    assert.equal(text.code, 1);
    assert.match(text.out, /! durability +.*off\n +why +A crash[\s\S]*\n\n2 warnings\.\n$/);
  });

  it("a database that cannot be reached, or refuses us, is a fault: exit 2", async () => {
    const wrong = new URL(context.db.url);
    wrong.password = "open-sesame-42";

    const nobody = await cli(["doctor", "--database-url", "postgres://u:p@127.0.0.1:9/x"]);
    const refused = await cli(["doctor", "--database-url", wrong.href, "--json"]);

    assert.equal(nobody.code, 2);
    assert.match(nobody.out, /✗ reachable +Cannot reach[\s\S]*1 fault\.\n$/);
    assert.equal(refused.code, 2);
    assert.equal(refused.json<{ findings: Finding[] }>().findings[0]?.check, "credentials");
    assert.ok(!refused.out.includes("sesame"));
  });

  it("finds pending jobs that nobody handles", async () => {
    await context.db.sql`select public.enqueue_job('doctor.orphan')`;

    const found = await finding("workers");

    assert.deepEqual(
      [found?.severity, found?.message],
      ["warning", "No worker is alive, and jobs are pending"],
    );
  });

  it("finds leases that nobody took back", async () => {
    await context.db.sql`select public.enqueue_job('doctor.stuck')`;
    await context.db
      .sql`select * from public.get_next_job('worker', array['doctor.stuck'], 1, null, 1)`;
    await context.db.advance(120_000);

    const found = await finding("leases");

    assert.equal(found?.message, "1 lease with 1 job ran out over a minute ago");
    await context.db.sql`select public.cleanup_stuck_jobs()`;
  });

  it("finds a transaction that was left open", async () => {
    // The limit is ten minutes by the server's own clock, so what it asks is tried with none.
    const sql = connect(context.db.url);
    const session = context.db.connect({ max: 1 });
    try {
      await session.begin("isolation level repeatable read", async (tx) => {
        await tx`select 1`;
        const { transactions } = await oldSnapshots(sql, 0);
        assert.ok(transactions.some((one) => one.state === "idle in transaction"));
      });
    } finally {
      await sql.close();
    }
  });

  it("finds that partitions run out", async () => {
    await context.db
      .sql`select setval('queue.job_ids', (select max(end_id) - 1 from queue.partitions))`;

    const found = await finding("partitions");

    assert.deepEqual(
      [found?.severity, found?.message],
      ["error", "No partition is left for new jobs"],
    );
    await context.db.sql`select queue.maintain()`;
    assert.equal((await finding("partitions"))?.severity, "ok");
  });

  it("finds a table that is not vacuumed", async () => {
    await context.db.sql`alter table queue.ready set (autovacuum_enabled = false)`;

    const found = await finding("autovacuum");

    assert.deepEqual(
      [found?.severity, found?.fix],
      ["error", "alter table queue.ready reset (autovacuum_enabled)"],
    );
    await context.db.sql`alter table queue.ready reset (autovacuum_enabled)`;
  });

  it("a worker's role may not look at everything, and may run workers", async () => {
    const url = await context.db.loginUrl("millrace_worker");

    assert.equal((await finding("privileges", url))?.severity, "ok");
    assert.equal((await finding("leases", url))?.severity, "skipped");
  });

  it("a role without rights can't run workers, and is told how to change that", async () => {
    const url = await context.db.loginUrl("anon");

    const found = await finding("privileges", url);

    assert.equal(found?.severity, "error");
    assert.match(`${found?.fix}`, /^grant millrace_worker to "login_anon/);
  });

  it(
    "a pooler in transaction mode is told from a direct connection",
    { skip: pgbouncerMissing },
    async () => {
      const bouncer = await startPgBouncer(context.db);
      try {
        const url = new URL(bouncer.url);
        const unsuspected = await finding("listen", url.href);
        url.searchParams.set("pgbouncer", "true");
        const declared = await finding("listen", url.href);

        assert.equal(unsuspected?.message, "Notifications do not arrive");
        assert.match(`${declared?.message}`, /pooler in transaction mode/);
      } finally {
        await bouncer.stop();
      }
    },
  );
});

it("doctor on a database without the queue: it is not installed, exit 2", () =>
  withDatabase(async (db) => {
    await db.superSql`drop schema queue cascade`;

    const run = await cli(["doctor"], { env: { DATABASE_URL: db.url } });

    assert.equal(run.code, 2);
    assert.match(
      run.out,
      /✗ schema +The queue is not installed in this database\n +fix +millrace migrate up/,
    );
  }));

describe("what doctor says of a server", () => {
  const facts: ServerFacts = {
    version: "14.9",
    major: 14,
    user: "app",
    database: "shop",
    notify_usage: 0.5,
    now_ms: 0,
    settings: { synchronous_commit: "off", fsync: "on", full_page_writes: "on", autovacuum: "on" },
  };

  it("a version that is too old is a fault", () => {
    assert.deepEqual(
      [
        checkVersion(facts).severity,
        checkVersion({ ...facts, major: 15, version: "15.1" }).severity,
      ],
      ["error", "ok"],
    );
  });

  it("a queue of notifications that is more than half full is a warning", () => {
    const full = checkNotifications({ ...facts, notify_usage: 0.61 });

    assert.equal(checkNotifications(facts).severity, "ok");
    assert.deepEqual(
      [full.severity, full.message],
      ["warning", "The server's queue of notifications is 61 % full"],
    );
  });

  it("asynchronous commits are a warning", () => {
    assert.equal(checkDurability(facts).message, "synchronous_commit is off");
  });

  it("a clock is off only when the way there and back can't explain it", () => {
    const slow = { sentMs: 10_000, receivedMs: 20_000 };

    assert.equal(checkClockSkew({ ...slow, serverMs: 15_000 }).severity, "ok");
    assert.equal(
      checkClockSkew({ ...slow, serverMs: 25_000 }).message,
      "This machine's clock is 5.0 s behind the server's",
    );
    assert.match(checkClockSkew({ ...slow, serverMs: 1_000 }).message, /9.0 s ahead of/);
  });
});
