import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { migrate, migrationSql, migrationStatus, readMigrations } from "../../src/db/migrate.ts";
import { connect } from "../../src/db/postgres-js.ts";
import { schemaVersion } from "../../src/db/schema-version.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createTestDatabase } from "../support/database.ts";
import { describeOnEachServer } from "../support/suite.ts";

describeOnEachServer(
  "migrate",
  (context) => {
    let sql: Sql;
    before(() => {
      sql = connect(context.db.url);
    });
    after(() => sql.close());

    it("applies everything to an empty database, in order, once, however many do it at a time", async () => {
      assert.equal(await schemaVersion(sql), null);
      const all = await readMigrations();

      const runs = await Promise.all([migrate(sql), migrate(sql), migrate(sql)]);

      assert.deepEqual(
        runs
          .flat()
          .map((migration) => migration.version)
          .sort(),
        all.map((migration) => migration.version),
      );
      assert.equal(await schemaVersion(sql), 1);
      assert.ok((await migrationStatus(sql)).every((migration) => migration.isApplied));
      assert.deepEqual(await migrate(sql), []);
    });

    it("records what it did as the Supabase CLI does", async () => {
      const [first] = await readMigrations();
      const rows = await context.db.sql`
        select version, name, statements[1] as first, cardinality(statements) as count
        from supabase_migrations.schema_migrations order by version limit 1`;

      assert.equal(rows[0]?.["version"], first?.version);
      assert.equal(rows[0]?.["name"], first?.name);
      assert.match(rows[0]?.["first"], /^create schema queue/);
    });

    it("goes on where another tool stopped", async () => {
      const [first, ...others] = await readMigrations();
      const db = await createTestDatabase(context.db.server, { empty: true });
      const fresh = connect(db.url);
      await fresh.query(first?.text ?? "");
      await db.sql.unsafe(`
        create schema supabase_migrations;
        create table supabase_migrations.schema_migrations (version text primary key, statements text[], name text);
        insert into supabase_migrations.schema_migrations values ('${first?.version}', null, 'by another tool')`);

      const applied = await migrate(fresh);

      assert.equal(applied.length, others.length);
      await fresh.close();
      await db.close();
    });

    it("leaves nothing behind of a file that fails", async () => {
      const broken = [
        { version: "1", name: "good", text: "create table kept (x integer)" },
        { version: "2", name: "bad", text: "create table gone (x integer); select 1/0" },
      ];

      await assert.rejects(migrate(sql, { migrations: broken }), { code: "SQL_ERROR" });

      const tables = await context.db.sql`
        select to_regclass('kept') is not null as kept, to_regclass('gone') is not null as gone`;
      assert.deepEqual({ ...tables[0] }, { kept: true, gone: false });
    });

    it("refuses a database that is newer than the library, and changes nothing", async () => {
      await context.db.sql.unsafe(`
        create or replace function queue.schema_version() returns integer language sql as 'select 99'`);

      await assert.rejects(migrate(sql), {
        code: "SCHEMA_VERSION",
        found: 99,
        expected: 1,
        message: /newer/,
        hint: /Update/,
      });
    });

    it("prints everything as one text, after which nothing is left to apply", async () => {
      const text = await migrationSql();
      const db = await createTestDatabase(context.db.server, { empty: true });
      const other = connect(db.url);

      await db.sql.unsafe(text);

      assert.ok(text.startsWith("-- 2026"));
      assert.deepEqual(await migrate(other), []);
      assert.ok((await migrationStatus(other)).every(({ isApplied }) => isApplied));
      await other.close();
      await db.close();
    });
  },
  { empty: true },
);
