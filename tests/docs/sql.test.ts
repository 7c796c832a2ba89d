/** The SQL of README and docs/: every block is run, and does what its page says; what stands in the text can be planned. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { installLocalPlatform } from "../../src/db/local-platform.ts";
import { connect } from "../../src/db/postgres-js.ts";
import { splitStatements } from "../../src/db/split-statements.ts";
import { only, rigOf } from "../sql/rig.ts";
import { installCron, installRealtime, realtimeMessages } from "../sql/supabase-stubs.ts";
import type { TestDatabase } from "../support/database.ts";
import { describeWithDatabase, withDatabase } from "../support/suite.ts";
import { type Block, placeOf, readBlocks, readPages } from "./blocks.ts";

/** Runs a block on a database of its own, and looks at what it did. */
type Run = (db: TestDatabase, code: string) => Promise<void>;

/** The blocks of each page, in their order; a text names the test that runs it. */
const RUNS: Readonly<Record<string, readonly (Run | string)[]>> = {
  "README.md": ["tests/docs/typescript.test.ts"],
  "docs/failover.md": ["tests/crash/failover.test.ts", findLostJobs, moveIdsOn],
  "docs/security.md": [openTypes, setQuotas, switchRealtimeOn],
  "docs/sql-api.md": [enqueueThree],
  "docs/supabase.md": [setUpSupabase, readHistory, setRoutes],
};

async function findLostJobs(db: TestDatabase, code: string): Promise<void> {
  const kept = await rigOf(db).enqueue("kept");
  await db.sql`create table public.orders (id integer primary key, job_id bigint)`;
  await db.sql`insert into public.orders values (1, ${kept}), (2, ${kept}::bigint + 7), (3, null)`;

  const rows = await db.sql.unsafe(code);

  assert.deepEqual([...rows], [{ id: 2 }]);
}

async function moveIdsOn(db: TestDatabase, code: string): Promise<void> {
  const before = BigInt(await rigOf(db).enqueue("before"));
  const [next] = await db.sql<{ id: string }[]>`
    select min(first_id)::text as id from queue.partitions where first_id > ${String(before)}`;

  await db.sql.unsafe(code);

  const after = await rigOf(db).enqueue("after");
  assert.equal(after, only(next).id);
  assert.equal(await rigOf(db).status(after), "pending");
}

async function openTypes(db: TestDatabase, code: string): Promise<void> {
  for (const type of ["report.export", "billing.sync"]) await rigOf(db).enqueue(type);

  await db.sql.unsafe(code);

  const enqueueAs = async (role: string, type: string): Promise<string | undefined> => {
    const user = db.connectAs("authenticated", { app_metadata: { tenant_id: "acme", role } });
    const made = user`select public.enqueue_job(${type})`;
    return made.then(
      () => "made",
      (error: { code: string }) => error.code,
    );
  };
  assert.equal(await enqueueAs("member", "report.export"), "made");
  assert.equal(await enqueueAs("member", "billing.sync"), "42501");
  assert.equal(await enqueueAs("admin", "billing.sync"), "made");
}

async function setQuotas(db: TestDatabase, code: string): Promise<void> {
  await rigOf(db).enqueue("theirs", { tenant: "acme" });

  await db.sql.unsafe(code);

  const [limits] = await db.sql`
    select settings.user_max_open_jobs, settings.user_jobs_per_minute, tenant.user_jobs_per_minute as of_acme
    from queue.settings, queue.tenants as tenant where tenant.name = 'acme'`;
  assert.deepEqual(limits, { user_max_open_jobs: 200, user_jobs_per_minute: 60, of_acme: 600 });
}

async function switchRealtimeOn(db: TestDatabase, code: string): Promise<void> {
  await installRealtime(db);

  await db.sql.unsafe(code);

  const job = await rigOf(db).start("told", { tenant: "acme" });
  await rigOf(db).complete(job);
  const told = await realtimeMessages(db);
  assert.deepEqual(
    told.map(({ topic, event, payload }) => [topic, event, payload["id"]]),
    [["queue:tenant:acme", "ended", job.id]],
  );
  const policies =
    await db.superSql`select policyname from pg_policies where schemaname = 'realtime'`;
  assert.deepEqual([...policies], [{ policyname: "millrace_tenant_reads" }]);
}

async function enqueueThree(db: TestDatabase, code: string): Promise<void> {
  const made = await db.sql.unsafe(code);

  const rows = await db.sql`select id, type, status, depends_on from public.job_queue order by id`;
  const [a, b, load] = made.map((row) => row["id"] as string);
  assert.deepEqual(
    rows.map((row) => ({ ...row })),
    [
      { id: a, type: "extract", status: "pending", depends_on: [] },
      { id: b, type: "extract", status: "pending", depends_on: [] },
      { id: load, type: "load", status: "blocked", depends_on: [a, b] },
    ],
  );
}

async function setUpSupabase(db: TestDatabase, code: string): Promise<void> {
  await installPlatform(db);
  const statements = splitStatements(code);
  const extensions = statements.filter((one) => one.startsWith("create extension"));
  assert.deepEqual(extensions, [
    "create extension if not exists pg_cron",
    "create extension if not exists pg_net",
  ]);

  // The stand-ins are there already.
  for (const statement of statements.slice(extensions.length)) await db.sql.unsafe(statement);

  const secrets = await db.sql`select name from vault.decrypted_secrets order by name`;
  assert.deepEqual(
    secrets.map(({ name }) => name),
    ["queue_worker_token", "queue_worker_url"],
  );
  const jobs = await db.superSql`select jobname from cron.job where jobname = 'millrace-process'`;
  assert.equal(jobs.length, 1);
}

async function readHistory(db: TestDatabase, code: string): Promise<void> {
  const job = await rigOf(db).start("send_welcome");
  await rigOf(db).complete(job);

  const rows = await db.sql.unsafe(code.replace("…", job.id));

  assert.deepEqual(
    rows.map(({ to_status }) => to_status),
    ["pending", "processing", "completed"],
  );
  const columns = Object.keys(only(rows[0]));
  const [, example = ""] = /^-- (.*)$/m.exec(code) ?? [];
  assert.equal(example.split(/ *\| */).length, columns.length, columns.join());
}

async function setRoutes(db: TestDatabase, code: string): Promise<void> {
  await db.sql.unsafe(code);

  const routes = await db.sql`
    select type_name, tenants, function_name, url, headers, timeout_ms, is_enabled from queue.routes order by type_name`;
  const route = { tenants: null, function_name: null, url: null, headers: {}, timeout_ms: null };
  assert.deepEqual(
    routes.map((row) => ({ ...row })),
    [
      {
        ...route,
        type_name: "billing.receipt",
        function_name: "send-receipt",
        timeout_ms: 120_000,
        is_enabled: true,
      },
      {
        ...route,
        type_name: "ocr",
        url: "https://ocr.example.com/jobs",
        headers: { "x-api-key": { env: "OCR_KEY" } },
        is_enabled: true,
      },
      { ...route, type_name: "render_video", is_enabled: false },
    ],
  );
}

/** Stand-ins of what Supabase brings. */
async function installPlatform(db: TestDatabase): Promise<void> {
  await installCron(db);
  const sql = connect(db.url);
  await installLocalPlatform(sql);
  await sql.close();
}

/** SQL between the words of the pages, with where it stands. Not what makes extensions and roles of the reader's server. */
const SPAN = /`((?:select|insert) [^`]*)`/g;

describeWithDatabase(
  "SQL in README and docs/",
  (context) => {
    it("stands in blocks that a test knows", async () => {
      const blocks = (await readBlocks()).filter(({ language }) => language === "sql");
      const counts = new Map<string, number>();
      for (const { page } of blocks) counts.set(page, (counts.get(page) ?? 0) + 1);

      assert.deepEqual(
        Object.fromEntries(counts),
        Object.fromEntries(Object.entries(RUNS).map(([page, runs]) => [page, runs.length])),
      );
    });

    for (const [page, runs] of Object.entries(RUNS)) {
      for (const [index, run] of runs.entries()) {
        if (typeof run === "string") continue;
        it(`does what its page says: ${run.name} of ${page}`, async () => {
          const block = (await readBlocks()).filter(
            (one) => one.page === page && one.language === "sql",
          )[index] as Block;
          await withDatabase((db) => run(db, block.code)).catch((cause: unknown) => {
            throw new Error(`the block at ${placeOf(block)}`, { cause });
          });
        });
      }
    }

    it("that stands in the text can be planned", async () => {
      await installPlatform(context.db);
      await context.db.sql`create function net.worker_restart() returns boolean return true`;
      let count = 0;
      for (const { path, text } of await readPages()) {
        for (const [, span = ""] of text.matchAll(SPAN)) {
          count += 1;
          const planned = context.db.sql.unsafe(`explain ${span.replace("…", "0")}`);
          const why = await planned.then(
            () => "",
            (error: Error) => error.message,
          );
          assert.equal(why, "", `${path}: ${span}`);
        }
      }
      assert.ok(count >= 15, String(count));
    });
  },
  { pooler: false },
);
