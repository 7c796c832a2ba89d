/**
 * What others say about the schema: plpgsql_check, and the Supabase CLI, which lints it and applies
 * its migrations.
 */
import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { migrate, migrationStatus } from "../../src/db/migrate.ts";
import { connect } from "../../src/db/postgres-js.ts";
import type { TestDatabase } from "../support/database.ts";
import { MAJORS } from "../support/majors.ts";
import { spawnProcess } from "../support/processes.ts";
import { describeOnEachServer, describeWithDatabase } from "../support/suite.ts";
import { installCron, installNet, installRealtime, installVault } from "./supabase-stubs.ts";

const CLI = process.env["MILLRACE_SUPABASE_CLI"];
const cliMissing = CLI
  ? false
  : "needs npm package supabase, its program named by MILLRACE_SUPABASE_CLI";
const MIGRATIONS = fileURLToPath(new URL("../../supabase/migrations/", import.meta.url));

/** Runs the Supabase CLI in a folder of its own that holds our migrations. */
async function supabase(t: TestContext, args: readonly string[]) {
  const folder = await mkdtemp(join(tmpdir(), "millrace-cli-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await cp(MIGRATIONS, join(folder, "supabase/migrations"), { recursive: true });
  const program = spawnProcess(CLI ?? "", {
    args,
    cwd: folder,
    env: { SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", HOME: folder },
  });
  const { code } = await program.exited;
  return { code, output: program.output() };
}

describeOnEachServer(
  "plpgsql_check",
  (context) => {
    it("finds nothing in any function, and would find a fault", async (t) => {
      const { superSql } = context.db;
      const [available] = await superSql`
        select from pg_available_extensions where name = 'plpgsql_check'`;
      if (!available) return t.skip("needs Debian package postgresql-15-plpgsql-check");
      await superSql.unsafe(`
        create schema extensions;
        create extension plpgsql_check schema extensions;
        create schema planted;
        create function planted.faulty() returns void language plpgsql as $$ begin perform missing from queue.jobs; end; $$;
      `);
      await installVault(context.db);
      await installNet(context.db);
      await installCron(context.db);
      await installRealtime(context.db);

      const reports = await superSql`
        select p.proname || ': ' || report.message as report
        from pg_proc as p
        join pg_language as l on l.oid = p.prolang and l.lanname = 'plpgsql'
        cross join lateral extensions.plpgsql_check_function_tb(
          p.oid::regprocedure,
          case when p.prorettype = 'trigger'::regtype then 'queue.audit'::regclass else 0 end,
          other_warnings => true, extra_warnings => true) as report
        where p.pronamespace::regnamespace::text in ('queue', 'public', 'planted')`;

      assert.deepEqual(
        reports.map(({ report }) => report),
        ['faulty: column "missing" does not exist'],
      );
    });
  },
  { majors: MAJORS.filter((major) => major === 15) },
);

const advisors = (url: string) => ["db", "advisors", `--remote=${url}`, "--fail-on", "warn"];

/** What a database may have before the migrations come. */
const SURROUNDINGS: readonly { with: string; prepare(db: TestDatabase): Promise<void> }[] = [
  { with: "a plain Postgres", prepare: async () => {} },
  {
    with: "Vault, pg_net and Realtime",
    async prepare(db) {
      await installVault(db);
      await installNet(db);
      await installRealtime(db);
    },
  },
];

for (const surroundings of SURROUNDINGS) {
  describeOnEachServer(
    `the Supabase CLI, on ${surroundings.with}`,
    (context) => {
      before(() => surroundings.prepare(context.db));

      it(
        "applies the migrations as a role that is no superuser, twice in a row, and millrace takes them as applied",
        { skip: cliMissing },
        async (t) => {
          const push = ["db", "push", `--remote=${context.db.url}`, "--yes"];

          const first = await supabase(t, push);
          const second = await supabase(t, push);
          const sql = connect(context.db.url, { max: 1 });
          const status = await migrationStatus(sql);
          const applied = await migrate(sql);
          const granted = await sql.query("select queue.grant_access(), queue.grant_realtime()");
          await sql.close();

          assert.equal(first.code, 0, first.output);
          assert.equal(second.code, 0, second.output);
          assert.match(second.output, /up to date/);
          assert.ok(status.every(({ isApplied }) => isApplied));
          assert.deepEqual(applied, []);
          assert.equal(granted.length, 1);
        },
      );

      it("has nothing to warn of in the schema it applied", { skip: cliMissing }, async (t) => {
        const { code, output } = await supabase(t, advisors(context.db.superUrl));

        assert.match(output, /No issues found/);
        assert.equal(code, 0);
      });
    },
    { empty: true },
  );
}

describeWithDatabase("the Supabase CLI on a faulty schema", (context) => {
  it("would warn", { skip: cliMissing }, async (t) => {
    await context.db.superSql.unsafe(`
      create view public.leak as select * from queue.jobs;
      grant select on public.leak to anon`);

    const { code, output } = await supabase(t, advisors(context.db.superUrl));

    assert.match(output, /leak/);
    assert.notEqual(code, 0);
  });
});
