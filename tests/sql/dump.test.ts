import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { runProgram } from "../../src/embedded/run-program.ts";
import { type TestSql, withDatabaseName } from "../support/connect.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { DEBIAN_15 } from "../support/majors.ts";
import { createOwner } from "../support/owner-role.ts";
import { applyMigrations } from "../support/prepare-cluster.ts";
import { describeOnEachServer } from "../support/suite.ts";

/** What a job is, wherever it stands. */
const FACTS = `
  select job.id::text, job.type, job.status, job.attempts, job.payload, job.result
  from public.job_queue as job order by job.id`;

describeOnEachServer(
  "a dump by an owner without BYPASSRLS",
  (context) => {
    let folder: string;
    let owner: string;
    let other: string;
    let facts: unknown;
    const copies: TestDatabase[] = [];

    function run(program: string, args: readonly string[]) {
      return runProgram(join(DEBIAN_15, program), args);
    }

    function url(role: string, database = context.db.name): string {
      return withDatabaseName(context.db.superUrl, database, role);
    }

    /** An empty database of that role, with the dump in it. */
    async function restore(role: string, options: readonly string[]): Promise<TestSql> {
      const copy = await createTestDatabase(context.db.server, { empty: true });
      copies.push(copy);
      await copy.superSql.unsafe(`alter database ${copy.name} owner to ${role}`);
      const { code, output } = await run("pg_restore", [
        ...options,
        "-d",
        url(role, copy.name),
        join(folder, "dump"),
      ]);
      assert.equal(code, 0, output);
      return copy.connectAs(role);
    }

    async function runsOn(sql: TestSql, expected: unknown): Promise<void> {
      assert.deepEqual(JSON.parse(JSON.stringify(await sql.unsafe(FACTS))), expected);
      const [row] = await sql<{ id: string }[]>`
        select public.enqueue_job('dumped', '{"n": "new"}')::text as id`;
      const rows = await sql<{ id: string; n: string }[]>`
        select id::text, payload ->> 'n' as n from public.get_next_job('w', '{dumped}', 10)`;
      // Whatever else was pending, it comes too; what was running comes when its lease is over.
      assert.deepEqual([...rows].map(({ n }) => n).sort(), ["new", "pending"]);
      for (const { id } of rows) await sql`select public.complete_job(${id})`;
      await sql`select queue.maintain()`;
      const [job] = await sql`select status from public.job_queue where id = ${row?.id ?? ""}`;
      assert.equal(job?.["status"], "completed");
      const [begun] = await sql`
        select cause from queue.generations order by first_lease_id desc limit 1`;
      assert.equal(begun?.["cause"], "restore");
    }

    before(async () => {
      folder = await mkdtemp(join(tmpdir(), `millrace-test-${process.pid}-dump-`));
      owner = await createOwner(context.db);
      other = await createOwner(context.db);
      const { superSql, name } = context.db;
      await superSql.unsafe(`alter database ${name} owner to ${owner}`);
      await applyMigrations(url(owner));
      const sql = context.db.connectAs(owner);
      for (const n of ["done", "running"]) {
        await sql`select public.enqueue_job('dumped', ${{ n } as never}::jsonb)`;
        await sql`select * from public.get_next_job('w', '{dumped}', 1)`;
        if (n === "done") await sql`select public.complete_job(1, '{"ok": true}')`;
      }
      await sql`select public.enqueue_job('dumped', '{"n": "pending"}')`;
      await sql`select public.enqueue_job('dumped', '{"n": "later"}', p_scheduled_at => queue.clock() + interval '1 day')`;
      facts = JSON.parse(JSON.stringify(await sql.unsafe(FACTS)));
    });
    after(async () => {
      for (const copy of copies) await copy.close();
      await rm(folder, { recursive: true, force: true });
    });

    it("is refused, and holds everything with --enable-row-security", async () => {
      const file = ["-Fc", "-f", join(folder, "dump")];

      const plain = await run("pg_dump", [...file, url(owner)]);
      const full = await run("pg_dump", ["--enable-row-security", ...file, url(owner)]);

      assert.notEqual(plain.code, 0);
      assert.match(plain.output, /row-level security/);
      assert.equal(full.code, 0, full.output);
    });

    it("is restored by the same owner, and works", async () => {
      await runsOn(await restore(owner, []), facts);
    });

    it("gives ids again that were given after the dump, unless they are moved on", async () => {
      const sql = await restore(owner, []);
      const next = async (on: TestSql): Promise<string | undefined> =>
        (await on`select public.enqueue_job('later')::text as id`)[0]?.["id"];
      const known = [
        await next(context.db.connectAs(owner)),
        await next(context.db.connectAs(owner)),
      ];
      assert.equal(await next(sql), known[0]);

      await sql`
        select setval('queue.job_ids', (
          select min(part.first_id) from queue.partitions as part, queue.job_ids as ids where part.first_id > ids.last_value), false)`;

      assert.ok(BigInt((await next(sql)) ?? 0) > BigInt(known[1] ?? 0));
    });

    it("is restored under another role without owner and privileges, and works once it is adopted", async () => {
      const sql = await restore(other, ["--no-owner", "--no-privileges"]);
      assert.equal((await sql.unsafe(FACTS)).length, 0);

      await sql`select queue.adopt()`;

      await runsOn(sql, facts);
      const [worker] = await sql`
        select has_function_privilege('millrace_worker', 'public.complete_job(bigint,jsonb,bigint)', 'execute') as may`;
      assert.equal(worker?.["may"], true);
    });

    it("works without the policies too, where their role was not known", async () => {
      const sql = await restore(other, ["--no-owner", "--no-privileges"]);
      await sql`
        do $$ declare v_table text; begin
          for v_table in select tablename from pg_catalog.pg_policies where schemaname = 'queue' and policyname = 'machine' loop
            execute format('drop policy machine on queue.%I', v_table);
          end loop;
        end $$`;

      await sql`select queue.adopt()`;

      await runsOn(sql, facts);
    });
  },
  { empty: true, pooler: false, majors: [15] },
);
