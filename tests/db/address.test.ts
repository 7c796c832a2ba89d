import assert from "node:assert/strict";
import { it, test } from "node:test";
import { type Address, parseAddress, toUrl, withDatabase } from "../../src/db/address.ts";
import { connect } from "../../src/db/postgres-js.ts";
import { describeWithDatabase } from "../support/suite.ts";

type Expected = Partial<Omit<Address, "servers">> & { readonly servers?: string };

/** What people paste, and what it means. */
const UNDERSTOOD: readonly (readonly [what: string, given: string, expected: Expected])[] = [
  ["a plain URL", "postgres://me:pw@db.example.com:5433/app", { host: "db.example.com:5433" }],
  ["no port", "postgresql://me@localhost/app", { servers: "localhost:5432", user: "me" }],
  ["no database", "postgres://me:pw@localhost", { database: undefined }],
  ["a slash and no database", "postgres://me:pw@localhost/", { database: undefined }],
  ["no host", "postgres:///app", { servers: "localhost:5432", database: "app" }],
  ["quotes around it", '"postgres://me:pw@h/app"', { servers: "h:5432" }],
  ["single quotes", "'postgres://me:pw@h/app'", { servers: "h:5432" }],
  ["a line's end", "postgres://me:pw@h/app\n", { database: "app" }],
  ["a whole line of .env", 'DATABASE_URL="postgres://me:pw@h/app"', { password: "pw" }],
  ["an export", "export DATABASE_URL=postgres://me:pw@h/app", { password: "pw" }],
  [
    "the command of Neon's page",
    "psql 'postgresql://me:pw@h/app?sslmode=require'",
    { tls: "require" },
  ],
  ["JDBC", "jdbc:postgresql://h:5433/app?user=me&password=p%20w", { user: "me", password: "p w" }],
  ["JDBC without a host", "jdbc:postgresql:app", { servers: "localhost:5432", database: "app" }],
  ["SQLAlchemy", "postgresql+psycopg2://me:pw@h/app", { user: "me" }],
  ["SQLAlchemy, asynchronous", "postgresql+asyncpg://me:pw@h/app?ssl=require", { tls: "require" }],
  ["Laravel", "pgsql://me:pw@h/app", { user: "me" }],
  ["upper case", "POSTGRES://me:pw@h/app", { user: "me" }],
  ["a percent sign in the password", "postgres://me:50%off@h/app", { password: "50%off" }],
  ["an escape in the password", "postgres://me:p%40ss%2Fword@h/app", { password: "p@ss/word" }],
  ["a broken escape", "postgres://me:a%ff%41@h/app", { password: "a%ff%41" }],
  ["an @ in the password", "postgres://me:p@ss@h/app", { password: "p@ss", servers: "h:5432" }],
  ["a slash in it", "postgres://me:p/ss@h:5433/app", { password: "p/ss", servers: "h:5433" }],
  ["a hash in it", "postgres://me:p#ss@h/app", { password: "p#ss", database: "app" }],
  ["a question mark in it", "postgres://me:p?ss@h/app?sslmode=require", { password: "p?ss" }],
  ["a colon in it", "postgres://me:a:b@h/app", { user: "me", password: "a:b" }],
  ["an @ in a parameter only", "postgres://h:5432/app?application_name=a@b", { servers: "h:5432" }],
  ["IPv6", "postgres://me:pw@[::1]:5433/app", { servers: "::1:5433", host: "[::1]:5433" }],
  [
    "a socket in the host",
    "postgres://me@%2Fvar%2Frun%2Fpostgresql/app",
    { servers: "/var/run/postgresql:5432" },
  ],
  [
    "a socket in a parameter",
    "postgres:///app?host=/cloudsql/p:r:i",
    { servers: "/cloudsql/p:r:i:5432" },
  ],
  [
    "several hosts",
    "postgres://me:pw@a:5432,b:5433/app",
    { servers: "a:5432 b:5433", saysPrimary: true },
  ],
  [
    "several hosts, one port",
    "postgres://me@a,b/app?target_session_attrs=any",
    { servers: "a:5432 b:5432", saysPrimary: true },
  ],
  [
    "read-write means the primary",
    "postgres://h/app?target_session_attrs=read-write",
    { saysPrimary: true },
  ],
  [
    "so does JDBC's word",
    "jdbc:postgresql://a,b/app?targetServerType=primary",
    { saysPrimary: true },
  ],
  ["hosts as parameters", "postgres:///app?host=a,b&port=1,2", { servers: "a:1 b:2" }],
  [
    "Prisma",
    "postgres://me:pw@h/app?schema=public&connection_limit=1&pool_timeout=20",
    { looksPooled: false },
  ],
  [
    "Prisma behind a pooler",
    "postgres://me:pw@h/app?pgbouncer=true&connection_limit=1",
    { looksPooled: true },
  ],
  [
    "Prisma's certificates",
    "postgres://h/app?sslmode=require&sslaccept=strict",
    { tls: "verify-full" },
  ],
  [
    "Neon",
    "postgresql://me:pw@ep-x-1.eu.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
    { tls: "require", looksPooled: false },
  ],
  [
    "Neon's pooler",
    "postgresql://me:pw@ep-x-1-pooler.eu.aws.neon.tech/neondb?sslmode=require",
    { looksPooled: true },
  ],
  [
    "Neon's endpoint",
    "postgres://me:pw@h/app?options=endpoint%3Dep-x-1",
    { settings: { options: "endpoint=ep-x-1" } },
  ],
  [
    "Supabase's pooler",
    "postgresql://postgres.abc:pw@aws-0-eu.pooler.supabase.com:6543/postgres",
    { looksPooled: true, user: "postgres.abc" },
  ],
  [
    "Supabase's session pooler",
    "postgresql://postgres.abc:pw@aws-0-eu.pooler.supabase.com:5432/postgres",
    { looksPooled: false },
  ],
  [
    "Supabase on Vercel",
    "postgres://me:pw@h:6543/postgres?sslmode=require&supa=base-pooler.x",
    { looksPooled: true },
  ],
  [
    "its older form",
    "postgres://me:pw@h:6543/postgres?workaround=supabase-pooler.vercel",
    { looksPooled: true },
  ],
  ["Azure", "postgres://me%40server:pw@h/app?sslmode=require", { user: "me@server" }],
  [
    "PlanetScale",
    "postgresql://me:pw@h/app?sslmode=verify-full&sslrootcert=system&sslnegotiation=direct",
    { tls: "verify-full", isTlsDirect: true },
  ],
  ["node-postgres", "postgres://h/app?ssl=true&uselibpqcompat=true", { tls: "require" }],
  [
    "asyncpg without prepared statements",
    "postgres://h/app?prepared_statement_cache_size=0",
    { looksPooled: true },
  ],
  [
    "Rails",
    "postgres://h/app?pool=5&prepared_statements=false&encoding=utf8",
    { looksPooled: true },
  ],
  ["pgx", "postgres://h/app?pool_max_conns=10&pool_min_conns=1", { looksPooled: false }],
  [
    "keepalives of libpq",
    "postgres://h/app?keepalives=1&keepalives_idle=30&tcp_user_timeout=1",
    { settings: {} },
  ],
  [
    "a name and a limit",
    "postgres://h/app?application_name=my%20app&connect_timeout=3",
    { settings: { application_name: "my app" }, connectTimeoutMs: 3_000 },
  ],
  [
    "a setting of the server",
    "postgres://h/app?statement_timeout=5s&search_path=a,b",
    { settings: { statement_timeout: "5s", search_path: "a,b" } },
  ],
  [
    "libpq's keywords",
    "host=h port=5433 dbname='my db' user=me password='it\\'s'",
    { servers: "h:5433", database: "my db", password: "it's" },
  ],
];

for (const [what, given, expected] of UNDERSTOOD) {
  test(`an address is understood: ${what}`, () => {
    const address = parseAddress(given);
    const { servers, ...rest } = expected;
    for (const [key, value] of Object.entries(rest)) {
      assert.deepEqual(address[key as keyof Address], value, key);
    }
    const told = address.servers.map(({ host, port }) => `${host}:${port}`).join(" ");
    if (servers !== undefined) assert.equal(told, servers);
    // What we write for others we read ourselves.
    const again = parseAddress(toUrl(address));
    assert.deepEqual({ ...again, looksPooled: true }, { ...address, looksPooled: true });
  });
}

const REFUSED: readonly (readonly [given: string, told: RegExp])[] = [
  ["", /must look like/],
  ["   ", /must look like/],
  ["localhost", /must look like/],
  ["me:secret@h/app", /must look like/],
  ["mysql://me:secret@h/app", /must look like/],
  ["postgres//me:secret@h", /must look like/],
  ["Host=h;Username=me;Password=secret", /must look like/],
  ["https://abc.supabase.co", /web address/],
  ["prisma+postgres://accelerate.prisma-data.net/?api_key=secret", /Prisma/],
  ["postgres://me:[YOUR-PASSWORD]@h/app", /placeholder/],
  ["postgres://me:secret@h:port/app", /port/],
  ["postgres://me:secret@h:99999/app", /port/],
  ["postgres://me:secret@h/app?frobnicate=1", /"frobnicate" is not known/],
  ["postgres://me:secret@h/app?sslmode=sometimes", /sslmode/],
  ["postgres://me:secret@h/app?sslrootcert=./ca.pem", /NODE_EXTRA_CA_CERTS/],
  ["postgres://me:secret@h/app?sslcert=./me.pem", /"sslcert".*tls/],
  ["postgres://me:secret@h/app?service=prod", /"service".*into the address/],
  ["postgres://me:secret@h/app?passfile=/x", /PGPASSWORD/],
  ["postgres://me:secret@a,b/app?target_session_attrs=standby", /primary/],
  ["postgres://me:secret@a,b/app?target_session_attrs=prefer-standby", /primary/],
  ["postgres://me:secret@h/app?replication=database", /"replication" is not known/],
];

for (const [given, told] of REFUSED) {
  test(`an address is refused with a word on what to change: ${given}`, () => {
    for (const option of ["url", "listenUrl"]) {
      assert.throws(
        () => parseAddress(given, option),
        (error: Error & { code: string; option: string }) => {
          assert.equal(error.code, "INVALID_OPTION");
          assert.equal(error.option, option);
          assert.match(error.message, told);
          // It may hold a password.
          assert.doesNotMatch(`${error.message} ${error.stack}`, /secret/);
          return true;
        },
      );
    }
  });
}

test("the same address with another database keeps all else", () => {
  const url = "postgres://me:p%40@a:1,b:2/app?sslmode=require&application_name=x%20y";
  const other = withDatabase(url, "other db");
  assert.equal(
    other,
    "postgres://me:p%40@a:1,b:2/other%20db?application_name=x%20y&sslmode=require&target_session_attrs=primary",
  );
});

describeWithDatabase(
  "connect(url)",
  (context) => {
    it("works with what other tools put into the address", async () => {
      for (const parameters of [
        "schema=public&connection_limit=1&pool_timeout=3",
        "channel_binding=require&sslmode=prefer",
        "sslmode=allow&keepalives=1&supa=base-pooler.x",
        "application_name=from%20url&options=-c%20work_mem%3D5MB",
      ]) {
        const separator = context.db.url.includes("?") ? "&" : "?";
        const sql = connect(`"${context.db.url}${separator}${parameters}"`);
        const [row] = await sql.query(
          "select current_setting('application_name') as name, current_setting('work_mem') as mem",
        );
        await sql.close();
        const isLast = parameters.startsWith("application_name");
        assert.equal(row?.["name"], isLast ? "from url" : "millrace");
        if (isLast) assert.equal(row?.["mem"], "5MB");
      }
    });
  },
  { pooler: false },
);
