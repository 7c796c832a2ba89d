/**
 * What others say about the schema: plpgsql_check, and the Supabase CLI, which lints it and applies
 * its migrations.
 */
import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { migrate, migrationStatus } from "../../src/db/migrate.ts";
import { connect } from "../../src/db/postgres-js.ts";
import { MAJORS } from "../support/majors.ts";
import { spawnProcess } from "../support/processes.ts";
import { describeOnEachServer } from "../support/suite.ts";

const CLI = process.env["MILLRACE_SUPABASE_CLI"];
const cliMissing = CLI
  ? false
  : "needs npm package supabase, its program named by MILLRACE_SUPABASE_CLI";
const MIGRATIONS = fileURLToPath(new URL("../../supabase/migrations/", import.meta.url));

/** Runs the Supabase CLI in a folder of its own that holds our migrations. */
async function supabase(t: TestContext, args: readonly string[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-cli-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await cp(MIGRATIONS, join(folder, "supabase/migrations"), { recursive: true });
  const program = spawnProcess(CLI ?? "", {
    args,
    cwd: folder,
    env: { SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", HOME: folder },
  });
  const { code } = await program.exited;
  assert.equal(code, 0, program.output());
  return program.output();
}

describeOnEachServer(
  "plpgsql_check",
  (context) => {
    it("finds no error in any function", async (t) => {
      const { superSql } = context.db;
      const [found] = await superSql`
        select from pg_available_extensions where name = 'plpgsql_check'`;
      if (!found) return t.skip("needs Debian package postgresql-15-plpgsql-check");
      await superSql.unsafe(
        "create schema extensions; create extension plpgsql_check schema extensions",
      );

      const reports = await superSql`
        select p.proname as name, report.lineno as line, report.level, report.message, report.detail, report.context
        from pg_proc as p
        join pg_language as l on l.oid = p.prolang and l.lanname = 'plpgsql'
        cross join lateral extensions.plpgsql_check_function_tb(
          p.oid::regprocedure,
          case when p.prorettype = 'trigger'::regtype then 'queue.audit'::regclass else 0 end,
          other_warnings => true, extra_warnings => true) as report
        where p.pronamespace in ('queue'::regnamespace, 'public'::regnamespace)`;
      console.error(reports);
      assert.deepEqual([...reports], []);
    });
  },
  { majors: MAJORS.filter((major) => major === 15) },
);

describeOnEachServer("the Supabase CLI's advisors", (context) => {
  it("have nothing to warn of", { skip: cliMissing }, async (t) => {
    const said = await supabase(t, [
      "db", "advisors", `--remote=${context.db.superUrl}`, "--fail-on", "warn",
    ]);

    console.error(said);
  });
});
