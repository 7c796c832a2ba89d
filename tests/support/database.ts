import { randomBytes } from "node:crypto";
import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { connect, type TestSql, withDatabaseName } from "./connect.ts";
import { MIGRATOR, TEMPLATE } from "./prepare-cluster.ts";
import type { TestServer } from "./server.ts";
import { leavePooler, type ServerPooler, throughPooler } from "./server-pooler.ts";
import { addWitness } from "./waits.ts";

/** A database of one's own, with all migrations applied and a clock that can be moved. */
export interface TestDatabase {
  readonly name: string;
  readonly server: TestServer;
  /** Major version of its server. */
  readonly version: number;
  /** URL of the role that applied the migrations and owns the database; no superuser. */
  readonly url: string;
  /** Always direct, never through a pooler. */
  readonly superUrl: string;
  /** Pool of that role. */
  readonly sql: TestSql;
  /** Pool of the superuser. */
  readonly superSql: TestSql;
  /** A further pool of the owner; `max: 1` gives one session. Closed with the database. */
  connect(options?: { max?: number }): TestSql;
  /** A pool that acts as another role, as PostgREST does, with the claims of a JWT if given. Always direct. */
  connectAs(role: string, claims?: Readonly<Record<string, unknown>>): TestSql;
  /** URL of a login role that is a member of `role` and has nothing else. */
  loginUrl(role: string): Promise<string>;
  /** Moves `queue.clock()` for everyone in this database. */
  advance(ms: number): Promise<void>;
  /** What `queue.clock()` says. */
  now(): Promise<Date>;
  /** Closes its pools and drops the database; rejects when other sessions were left open. Twice is fine. */
  close(): Promise<void>;
}

export interface DatabaseOptions {
  /** Without the migrations. @default false */
  readonly empty?: boolean;
  /** The owner and login roles reach the database through it. */
  readonly pooler?: ServerPooler;
}

/** Clones the template, or makes an empty database that the migration role owns. */
export async function createTestDatabase(
  server: TestServer,
  { empty = false, pooler }: DatabaseOptions = {},
): Promise<TestDatabase> {
  const name = databaseName();
  await createDatabase(server, name, empty ? "template0" : TEMPLATE);

  const superUrl = withDatabaseName(server.superUrl, name);
  const route = (direct: string): string => (pooler ? throughPooler(pooler, direct) : direct);
  const url = route(withDatabaseName(server.superUrl, name, MIGRATOR));
  const pools: TestSql[] = [];
  const open = (...args: Parameters<typeof connect>): TestSql => {
    const pool = connect(...args);
    pools.push(pool);
    return pool;
  };
  const superSql = open(superUrl, { max: 2 });
  const forgetWitness = addWitness(() => sessionsAt(server, name));
  let closed = false;
  return {
    name,
    server,
    version: server.major,
    url,
    superUrl,
    sql: open(url),
    superSql,
    connect: ({ max = 10 } = {}) => open(url, { max }),
    connectAs: (role, claims) =>
      open(superUrl, {
        max: 4,
        connection: {
          role,
          ...(claims && { "request.jwt.claims": JSON.stringify(claims) }),
        },
      }),
    loginUrl: async (role) => route(await createLogin(superSql, superUrl, role)),
    async advance(ms) {
      await superSql`update test.clock set skew = skew + make_interval(secs => ${ms / 1000})`;
    },
    async now() {
      const [row] = await superSql<{ now: Date }[]>`select queue.clock() as now`;
      if (!row) throw new Error("queue.clock() returned nothing");
      return row.now;
    },
    async close() {
      if (closed) return;
      closed = true;
      forgetWitness();
      await Promise.all(pools.map((pool) => pool.end({ timeout: 1 })));
      const clients = pooler ? await leavePooler(pooler, server, name) : [];
      await asSuperuser(server, async (sql) => {
        const left = [...clients, ...(await sessionsLeft(sql, name))];
        await sql.unsafe(`drop database ${name} with (force)`);
        if (left.length > 0) throw new Error(`sessions were left open: ${left.join(", ")}`);
      });
    },
  };
}

function databaseName(): string {
  const file = basename(process.argv[1] ?? "test")
    .replace(/\W.*$/, "")
    .toLowerCase();
  return `t_${file.slice(0, 30)}_${randomBytes(5).toString("hex")}`;
}

async function createDatabase(server: TestServer, name: string, template: string): Promise<void> {
  await asSuperuser(server, (sql) =>
    sql.unsafe(`create database ${name} template ${template} owner ${MIGRATOR}`),
  );
}

async function createLogin(superSql: TestSql, superUrl: string, role: string): Promise<string> {
  const login = `login_${role}_${randomBytes(3).toString("hex")}`;
  await superSql.unsafe(
    `create role ${login} login inherit password '${new URL(superUrl).password}' in role ${role}`,
  );
  return withDatabaseName(superUrl, new URL(superUrl).pathname.slice(1), login);
}

/** What the sessions of a database do now, for a test that runs out of time. */
function sessionsAt(server: TestServer, name: string): Promise<string[]> {
  return asSuperuser(server, async (sql) => {
    const rows = await sql<{ line: string }[]>`
      select format('session %s of %s is %s, waits for %s: %s', pid, application_name, state,
          coalesce(wait_event, 'nothing'), left(query, 200)) as line
        from pg_stat_activity
       where datname = ${name} and backend_type = 'client backend'`;
    return rows.map(({ line }) => line);
  });
}

/** A session needs a moment to end after its client has gone. */
async function sessionsLeft(sql: TestSql, name: string): Promise<string[]> {
  const deadline = Date.now() + 2_000;
  for (;;) {
    const rows = await sql<{ who: string }[]>`
      select format('%s of %s (%s)', pid, usename, left(query, 60)) as who
        from pg_stat_activity
       where datname = ${name} and backend_type = 'client backend'
    `;
    if (rows.length === 0 || Date.now() > deadline) return rows.map((row) => row.who);
    await delay(20);
  }
}

async function asSuperuser<T>(server: TestServer, work: (sql: TestSql) => Promise<T>): Promise<T> {
  const sql = connect(server.superUrl, { max: 1 });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}
