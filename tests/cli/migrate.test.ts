import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type CliRun, cli } from "./run.ts";

describeOnEachServer(
  "millrace migrate",
  (context) => {
    const millrace = (...argv: string[]): Promise<CliRun> =>
      cli(argv, { env: { DATABASE_URL: context.db.url } });

    it("goes from nothing to up to date, and tells each step", async () => {
      const before = await millrace("migrate", "status", "--json");
      const other = await millrace("jobs", "list");
      const up = await millrace("migrate", "up");
      const after = await millrace("migrate", "status");
      const again = await millrace("migrate", "up", "--json");

      const total = before.json<{ migrations: unknown[] }>().migrations.length;
      assert.deepEqual(
        [before.code, before.json()["pending"], before.json()["schema_version"]],
        [4, total, null],
      );
      assert.equal(other.code, 4);
      assert.match(other.err, /not installed[\s\S]*millrace migrate up/);
      assert.equal(up.code, 0, up.err);
      assert.match(
        up.out,
        new RegExp(
          `✓ \\d+_foundation\n[\\s\\S]*${total} migrations applied to .*: schema version 1\n$`,
        ),
      );
      assert.equal(after.code, 0);
      assert.match(after.out, /✓ applied[\s\S]*up to date: schema version 1/);
      assert.deepEqual(again.json(), { applied: [], schema_version: 1 });
    });

    it("status exits with 4 when one is missing", async () => {
      await context.db.sql`
        delete from supabase_migrations.schema_migrations
        where version = (select max(version) from supabase_migrations.schema_migrations)`;

      const run = await millrace("migrate", "status");

      assert.equal(run.code, 4);
      assert.match(run.out, /· missing[\s\S]*1 migration missing on .*: run millrace migrate up/);
    });
  },
  { empty: true },
);

it("migrate sql prints every migration and needs no database", async () => {
  const text = await cli(["migrate", "sql"]);
  const json = await cli(["migrate", "sql", "--json"]);

  assert.equal(text.code, 0);
  assert.match(
    text.out,
    /^-- \d+_foundation.sql\n[\s\S]*create schema queue;[\s\S]*create function public.enqueue_job\(/,
  );
  const { migrations } = json.json<{
    migrations: { version: string; name: string; sql: string }[];
  }>();
  assert.deepEqual(Object.keys(migrations[0] ?? {}), ["version", "name", "sql"]);
});
