import assert from "node:assert/strict";
import { before, it } from "node:test";
import { type TestSql, withDatabaseName } from "../support/connect.ts";
import { createOwner } from "../support/owner-role.ts";
import { applyMigrations } from "../support/prepare-cluster.ts";
import { describeOnEachServer } from "../support/suite.ts";

describeOnEachServer(
  "an owner without BYPASSRLS",
  (context) => {
    let first: string;
    let second: string;

    function as(role: string): TestSql {
      return context.db.connectAs(role);
    }

    /** A job on its whole way, in the hands of the worker's role; and what the owner sees of it. */
    async function runsJobs(owner: string): Promise<void> {
      const { superSql, superUrl } = context.db;
      const [{ id } = { id: "" }] = await as(owner)<{ id: string }[]>`
        select public.enqueue_job('owned', '{"n": 1}')::text as id`;
      await superSql.unsafe(`grant millrace_worker to ${new URL(superUrl).username}`);
      const worker = as("millrace_worker");
      const [claimed] = await worker`
        select id::text, payload from public.get_next_job('w', '{owned}', 1)`;
      assert.deepEqual({ ...claimed }, { id, payload: { n: 1 } });
      const [completed] = await worker`select public.complete_job(${id}, '{"ok": true}') as done`;
      assert.equal(completed?.["done"], true);
      await worker`select queue.maintain()`;
      const [seen] = await as(owner)`select status, result from public.job_queue where id = ${id}`;
      assert.deepEqual({ ...seen }, { status: "completed", result: { ok: true } });
    }

    before(async () => {
      first = await createOwner(context.db);
      second = await createOwner(context.db);
      const { superSql, superUrl, name } = context.db;
      await superSql.unsafe(`alter database ${name} owner to ${first}`);
      await applyMigrations(withDatabaseName(superUrl, name, first));
    });

    it("installs the queue, runs jobs and reads them", () => runsJobs(first));

    it("that took over from another is refused, sees nothing, and is told so", async () => {
      await context.db.superSql.unsafe(`reassign owned by ${first} to ${second}`);

      const rows = await as(second)`select from public.job_queue`;

      assert.equal(rows.length, 0);
      await assert.rejects(as(second)`select public.enqueue_job('owned')`, { code: "42501" });
      const problems = await as(second)<{ message: string }[]>`
        select problem ->> 'message' as message
        from jsonb_array_elements(public.queue_health() -> 'problems') as problem
        where problem ->> 'code' = 'other_owner'`;
      assert.match(problems[0]?.message ?? "", /select queue\.adopt\(\)/);
    });

    it("works again after it adopted the queue", async () => {
      const [adopted] = await as(second)`select queue.adopt() as tables`;
      assert.ok(adopted?.["tables"] > 20);
      await runsJobs(second);
      const [again] = await as(second)`select queue.adopt() as tables`;
      assert.equal(again?.["tables"], 0);
      const [health] = await as(second)`select public.queue_health() ->> 'status' as status`;
      assert.equal(health?.["status"], "ok");
    });

    it("makes partitions that are its own", async () => {
      const sql = as(second);
      await sql`select queue.make_partition(900)`;

      const policies = await sql`
        select tablename from pg_catalog.pg_policies
        where schemaname = 'queue' and tablename in ('jobs_p900', 'runs_p900') and roles = array[${second}]::name[]`;
      assert.equal(policies.length, 2);
      await sql`delete from queue.partitions where number = 900`;
      await sql`drop table queue.jobs_p900, queue.runs_p900`;
    });

    it("takes from everybody what a restore without privileges gave them", async () => {
      const sql = as(second);
      await sql`grant execute on all functions in schema queue to public`;
      await sql`grant execute on function public.get_next_job to public`;
      await sql`grant usage on schema queue to public`;
      await sql`revoke execute on function public.get_next_job from millrace_worker`;

      await sql`select queue.adopt()`;

      const open = await sql`
        select proc.proname from pg_catalog.pg_proc as proc
        join pg_catalog.pg_namespace as space on space.oid = proc.pronamespace,
          aclexplode(coalesce(proc.proacl, acldefault('f', proc.proowner))) as granted
        where (space.nspname = 'queue' or proc.proname = 'get_next_job') and granted.grantee = 0`;
      assert.equal(open.length, 0);
      await runsJobs(second);
    });

    it("cannot adopt what belongs to several roles, and is told what to do", async () => {
      await context.db.superSql.unsafe(`alter table queue.audit owner to ${first}`);

      await assert.rejects(as(second)`select queue.adopt()`, {
        code: "55000",
        hint: `Make one role the owner of all: reassign owned by ${first} to ${second}.`,
      });
      await context.db.superSql.unsafe(`alter table queue.audit owner to ${second}`);
    });
  },
  { empty: true, pooler: false },
);
