import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import pg from "pg";
import postgres from "postgres";
import { fromPg } from "../../src/db/pg.ts";
import { connect, fromPostgresJs } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { eventually } from "../support/eventually.ts";
import { pgbouncerMissing, startPgBouncer } from "../support/pgbouncer.ts";
import { describeWithDatabase } from "../support/suite.ts";

/** An adapter under test, made for a URL. */
interface Candidate {
  readonly name: string;
  open(url: string): { sql: Sql; close(): Promise<unknown> };
  /** What it takes until no statement fails any more because of a connection that was cut. */
  recover?(sql: Sql): Promise<unknown>;
}

const CANDIDATES: readonly Candidate[] = [
  {
    name: "connect(url)",
    open(url) {
      const sql = connect(url);
      return { sql, close: () => sql.close() };
    },
  },
  {
    name: "a postgres.js client",
    open(url) {
      // With the settings that would spoil answers if we relied on the driver's view of types and names.
      const client = postgres(url, {
        transform: postgres.camel,
        types: { bigint: postgres.BigInt },
      });
      // With a limit: postgres.js waits for connections that were cut in the middle of a statement.
      return { sql: fromPostgresJs(client as never), close: () => client.end({ timeout: 1 }) };
    },
    // postgres.js tells the loss of a session once more, to the first statement after it.
    recover: (sql) =>
      Promise.allSettled(Array.from({ length: 10 }, () => sql.query("select pg_sleep(0.05)"))),
  },
  {
    name: "a node-postgres pool",
    open(url) {
      const pool = new pg.Pool({ connectionString: url });
      return { sql: fromPg(pool as never), close: () => pool.end() };
    },
  },
];

for (const candidate of CANDIDATES) {
  describeWithDatabase(`the Sql port over ${candidate.name}`, (context) => {
    let opened: ReturnType<Candidate["open"]>;
    before(() => {
      opened = candidate.open(context.db.url);
    });
    after(() => opened.close());

    it("runs a statement with parameters of every kind", async () => {
      const [row] = await opened.sql.query(
        "select $1::text as a, $2::integer as b, $3::boolean as c, $4::text is null as d",
        ["x'y\"z", 7, true, null],
      );

      assert.deepEqual({ ...row }, { a: "x'y\"z", b: 7, c: true, d: true });
    });

    it("gives the same answer whether a statement is prepared or not, and again", async () => {
      for (const prepare of [true, false, true]) {
        const rows = await opened.sql.query(
          "select ($1::text::bigint + 1)::text as n",
          ["9007199254740993"],
          { prepare },
        );
        assert.deepEqual(
          rows.map((row) => row["n"]),
          ["9007199254740994"],
        );
      }
    });

    it("takes arrays and JSON as text", async () => {
      const [row] = await opened.sql.query(
        "select ($1::text::bigint[])[2]::text as second, ($2::text::jsonb ->> 'a') as a",
        ["{1,22}", '{"a":"ü"}'],
      );

      assert.deepEqual({ ...row }, { second: "22", a: "ü" });
    });

    it("runs several statements at once when there are no parameters", async () => {
      await opened.sql.query("create temp table t (x integer); drop table t");
    });

    it("commits a transaction that resolves, and hands on what it resolved to", async () => {
      await opened.sql.query("create table committed (x integer)");

      const answer = await opened.sql.transaction(async (tx) => {
        await tx.query("insert into committed values ($1)", [1]);
        return "done";
      });

      assert.equal(answer, "done");
      assert.equal((await opened.sql.query("select * from committed")).length, 1);
    });

    it("rolls back a transaction that rejects, and hands on its error as it is", async () => {
      await opened.sql.query("create table rolled_back (x integer)");
      const own = new Error("own");

      const failing = opened.sql.transaction(async (tx) => {
        await tx.query("insert into rolled_back values (1)");
        throw own;
      });

      await assert.rejects(failing, (error) => error === own);
      assert.equal((await opened.sql.query("select * from rolled_back")).length, 0);
    });

    it("tells errors of the database by class and SQLSTATE", async () => {
      await assert.rejects(opened.sql.query("select 1/0"), {
        code: "SQL_ERROR",
        sqlstate: "22012",
      });
      await assert.rejects(
        opened.sql.transaction((tx) => tx.query("select 1/0")),
        { code: "SQL_ERROR", sqlstate: "22012" },
      );
    });

    it("stops waiting when the signal aborts, and stays usable", async () => {
      const controller = new AbortController();
      const waiting = opened.sql.query("select pg_sleep(0.5)", [], { signal: controller.signal });
      controller.abort(new Error("enough"));

      await assert.rejects(waiting, /enough/);
      await assert.rejects(
        opened.sql.query("select 1", [], { signal: controller.signal }),
        /enough/,
      );
      assert.equal((await opened.sql.query("select 1 as one")).length, 1);
    });

    it("hears notifications from when it says that it listens until it is told to stop", async () => {
      const controller = new AbortController();
      const heard: string[] = [];
      let listening = 0;
      await opened.sql.listen?.(["news", "more news"], (payload) => heard.push(payload), {
        signal: controller.signal,
        onListening: () => {
          listening += 1;
        },
      });
      assert.equal(listening, 1);

      await context.db.sql`
        select pg_notify('news', 'one'), pg_notify('other', 'no'), pg_notify('more news', 'two')`;
      await eventually(() => heard.length > 1);
      assert.deepEqual(heard, ["one", "two"]);
      controller.abort();
      await eventually(async () => {
        const left = await context.db.superSql`
          select 1 from pg_stat_activity where datname = current_database() and query ilike 'listen%'`;
        return left.length === 0;
      });
    });

    it("listens again after its connection was cut", async () => {
      const controller = new AbortController();
      const heard: string[] = [];
      let listening = 0;
      await opened.sql.listen?.(["again", "more"], (payload) => heard.push(payload), {
        signal: controller.signal,
        onListening: () => {
          listening += 1;
        },
      });

      await context.db.superSql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and query ilike 'listen%'`;
      await eventually(() => listening === 2);
      await context.db.sql`select pg_notify('again', 'back'), pg_notify('more', 'too')`;
      await eventually(() => heard.length > 1);
      assert.deepEqual(heard, ["back", "too"]);
      assert.equal(listening, 2);
      controller.abort();
    });

    it("survives the loss of its connection in a transaction: nothing is kept, and nothing runs outside of it", async () => {
      await opened.sql.query("create table if not exists lost (entry text)");
      const codes: string[] = [];
      const failing = opened.sql.transaction(async (tx) => {
        await tx.query("insert into lost values ('inside')");
        const [me] = await tx.query("select pg_backend_pid()::text as pid");
        await context.db
          .superSql`select pg_terminate_backend(${String(me?.["pid"])}::text::integer)`;
        await eventually(async () => {
          try {
            await tx.query("insert into lost values ('outside')");
            return false;
          } catch (error) {
            codes.push((error as { code: string }).code);
            return true;
          }
        });
        return "not committed";
      });

      await assert.rejects(failing, { code: "DATABASE_UNREACHABLE" });
      await eventually(() => codes.length > 0);
      assert.deepEqual(codes, ["DATABASE_UNREACHABLE"]);
      const kept = await eventually(() => opened.sql.query("select * from lost"));
      assert.equal(kept.length, 0);
    });

    it("keeps statements flowing while transactions take their time", async () => {
      await candidate.recover?.(opened.sql);
      await eventually(() => opened.sql.query("select 1"));
      const busy = Array.from({ length: 20 }, () =>
        opened.sql.transaction((tx) => tx.query("select pg_sleep(0.2)")),
      );
      const started = performance.now();
      await opened.sql.query("select 1");
      assert.ok(performance.now() - started < 1_000);
      await Promise.all(busy);
    });

    it("works on after all of its connections were cut", async () => {
      await opened.sql.query("select 1");
      await context.db.superSql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and usename = 'postgres'`;

      await eventually(async () => {
        return (await opened.sql.query("select 1")).length === 1;
      });
    });
  });
}

describe("an address that leads nowhere", () => {
  for (const candidate of CANDIDATES) {
    it(`is told by ${candidate.name} in one sentence, with the host and without the password`, async () => {
      const { sql, close } = candidate.open("postgres://me:topsecret@127.0.0.1:1/none");

      await assert.rejects(sql.query("select 1"), (error: Error & { code: string }) => {
        assert.equal(error.code, "DATABASE_UNREACHABLE");
        assert.match(error.message, /127\.0\.0\.1:1/);
        assert.doesNotMatch(`${error.message}${error.stack}`, /topsecret/);
        return true;
      });
      await close();
    });
  }
});

describeWithDatabase("credentials", (context) => {
  for (const candidate of CANDIDATES) {
    it(`that are wrong are told as such by ${candidate.name}`, async () => {
      const url = new URL(context.db.url);
      url.pathname = "/no_such_database";
      const { sql, close } = candidate.open(url.href);

      await assert.rejects(sql.query("select 1"), {
        code: "DATABASE_CREDENTIALS",
        message: /no_such_database/,
      });
      await close();
    });
  }
});

describeWithDatabase("behind a pooler in transaction mode", (context) => {
  it(
    "connect(url) works without prepared statements and says that LISTEN is not to be had",
    { skip: pgbouncerMissing },
    async () => {
      const bouncer = await startPgBouncer(context.db);
      const pooled = connect(bouncer.url, { pooled: true });
      const naive = connect(bouncer.url, { pooled: false });
      try {
        for (let round = 0; round < 20; round += 1) {
          const [row] = await pooled.query("select $1::text as x", [String(round)], {
            prepare: true,
          });
          assert.equal(row?.["x"], String(round));
        }
        assert.equal(pooled.listen, undefined);
        const { signal } = new AbortController();
        await assert.rejects(
          async () => naive.listen?.(["millrace"], () => undefined, { signal }),
          {
            code: "LISTEN_UNAVAILABLE",
          },
        );
      } finally {
        await pooled.close();
        await naive.close();
        await bouncer.stop();
      }
    },
  );
});
