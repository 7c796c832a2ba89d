import assert from "node:assert/strict";
import { it } from "node:test";
import { connect, withDatabaseName } from "./connect.ts";
import { createTestDatabase } from "./database.ts";
import { backendPid, eventually, waitForLockWait } from "./eventually.ts";
import { pgbouncerMissing, startPgBouncer } from "./pgbouncer.ts";
import { applyMigrations } from "./prepare-cluster.ts";
import { spawnScript } from "./processes.ts";
import { startTestServer } from "./server.ts";
import { startServerPooler } from "./server-pooler.ts";
import { sharedServer } from "./shared-servers.ts";
import { describeOnEachServer, withDatabase } from "./suite.ts";

describeOnEachServer("the test harness", (context) => {
  it("gives a database on the version it names, owned by a role that is no superuser", async () => {
    const [row] = await context.db.sql`
      select current_setting('server_version_num')::int / 10000 as major, r.rolsuper, r.rolcreaterole, r.rolbypassrls,
             pg_get_userbyid(d.datdba) as owner
        from pg_roles r, pg_database d
       where r.rolname = current_user and d.datname = current_database()`;

    assert.deepEqual(
      { ...row },
      {
        major: context.major,
        rolsuper: false,
        rolcreaterole: true,
        rolbypassrls: true,
        owner: "postgres",
      },
    );
  });

  it("moves the clock for every connection", async () => {
    const before = await context.db.now();

    await context.db.advance(3_600_000);

    const [row] = await context.db.sql<{ now: Date }[]>`select queue.clock() as now`;
    assert.ok(row && row.now.getTime() - before.getTime() >= 3_600_000);
  });

  it("acts as another role with claims", async () => {
    const sql = context.db.connectAs("authenticated", { sub: "ada" });

    const [row] =
      await sql`select current_user as who, current_setting('request.jwt.claims')::json ->> 'sub' as sub`;

    assert.deepEqual({ ...row }, { who: "authenticated", sub: "ada" });
  });

  it("logs in as a member of one role", async () => {
    const url = await context.db.loginUrl("millrace_worker");
    const sql = connect(url, { max: 1 });

    const [row] = await sql`select pg_has_role(current_user, 'millrace_worker', 'usage') as member`;
    await sql.end();

    assert.equal(row?.["member"], true);
  });

  it("sees that a session waits for a lock", async () => {
    const one = context.db.connect({ max: 1 });
    const two = context.db.connect({ max: 1 });
    const pid = await backendPid(two);

    await one
      .begin(async (tx) => {
        await tx`select pg_advisory_xact_lock(1)`;
        const waiting = two`select pg_advisory_xact_lock(1)`.execute();
        await waitForLockWait(context.db.sql, pid);
        return { waiting };
      })
      .then(({ waiting }) => waiting);
  });

  it("puts PgBouncer in front of the database", { skip: pgbouncerMissing }, async () => {
    const pooler = await startPgBouncer(context.db);
    const sql = connect(pooler.url, { prepare: false });

    const [row] = await sql`select current_database() as name`;
    await sql.end();
    await pooler.stop();

    assert.equal(row?.["name"], context.db.name);
  });
});

it("puts one PgBouncer in front of all databases", { skip: pgbouncerMissing }, async (t) => {
  const server = await sharedServer(18);
  const pooler = await startServerPooler(server);
  t.after(() => pooler.stop());
  const db = await createTestDatabase(server, { pooler });
  const worker = connect(await db.loginUrl("millrace_worker"), { max: 1 });

  const [member] = await worker`select current_database() as name`;
  const pids: number[] = [];
  for (let i = 0; i < 3; i += 1) pids.push(await backendPid(db.connect({ max: 1 })));
  await worker.end();
  await db.close();

  assert.equal(member?.["name"], db.name);
  assert.equal(new Set(pids).size, 1, "clients share a session");
});

it("finds clients that a test left at the pooler", { skip: pgbouncerMissing }, async (t) => {
  const server = await sharedServer(18);
  const pooler = await startServerPooler(server);
  t.after(() => pooler.stop());
  const db = await createTestDatabase(server, { pooler });
  const left = connect(db.url, { max: 1 });
  await left`select 1`;

  await assert.rejects(db.close(), /sessions were left open: postgres through the pooler/);

  await left.end({ timeout: 0 });
});

it("crashes and restarts a server of its own, and keeps its address", async (t) => {
  const server = await startTestServer(18);
  t.after(() => server.stop());
  const db = await createTestDatabase(server);
  await db.sql`create table kept as select 42 as answer`;

  await server.crashAndRestart();

  const row = await eventually(async () => (await db.sql`select answer from kept`)[0]);
  assert.equal(row["answer"], 42);
  await db.close();
});

it("finds sessions that a test left open", async () => {
  const db = await createTestDatabase(await sharedServer(18));
  const left = connect(db.url, { max: 1 });
  await left`select 1`;

  await assert.rejects(db.close(), /sessions were left open: \d+ of postgres \(select 1\)/);

  await left.end({ timeout: 0 });
});

it("gives an empty database", async () => {
  const db = await createTestDatabase(await sharedServer(18), { empty: true });

  await applyMigrations(db.url);

  const [row] = await db.sql`select to_regnamespace('queue') is not null as there`;
  await db.close();
  assert.equal(row?.["there"], true);
});

it("gives a database for a block", async () => {
  const one = await withDatabase(async (db) => (await db.sql`select 1 as one`)[0]?.["one"]);

  assert.equal(one, 1);
});

it("runs a script, sees its marker and kills it", async () => {
  const script = spawnScript(new URL("./sleeper.fixture.ts", import.meta.url));

  await script.waitFor("ready");
  const exit = await script.kill();

  assert.equal(exit.signal, "SIGKILL");
});

it("tells why something did not come true in time", async () => {
  await assert.rejects(
    eventually(() => false, { timeoutMs: 50 }),
    /not within 50 ms/,
  );
});

it("changes the database and user of a URL", () => {
  const url = withDatabaseName("postgres://a:b@127.0.0.1:5/x", "y", "c");

  assert.equal(url, "postgres://c:b@127.0.0.1:5/y");
});
