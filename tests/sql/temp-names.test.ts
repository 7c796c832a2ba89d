/** Who may make temporary objects could give them the names of types that the machine's functions use, and have them run with its rights. */
import assert from "node:assert/strict";
import { it } from "node:test";
import postgres from "postgres";
import { describeOnEachServer } from "../support/suite.ts";

const TYPES = ["jsonb", "json", "text", "timestamptz", "bytea", "tid", "regclass", "name", "oid"];

describeOnEachServer(
  "temporary types with known names",
  (context) => {
    it("are not what functions with their owner's rights mean", async (t) => {
      const sql = postgres(await context.db.loginUrl("millrace_worker"), {
        max: 1,
        prepare: false,
      });
      t.after(() => sql.end());
      await sql.unsafe(`
        create function pg_temp.seen_by() returns boolean language plpgsql as $$
        begin
          perform set_config('test.seen', concat(current_setting('test.seen', true), ' ', current_user), false);
          return true;
        end;
        $$;`);
      for (const type of TYPES) {
        await sql.unsafe(
          `create domain pg_temp.${type} as pg_catalog.${type} check (pg_temp.seen_by())`,
        );
      }

      await sql.unsafe(`
        select public.enqueue_job('temp', '{"n": 1}', p_idempotency_key => 'k', p_tenant_id => 'temp');
        select public.enqueue_jobs('[{"type": "temp"}, {"type": "temp", "options": {"timeout_ms": 1}}]');
        select public.fail_job(id, 'boom') from public.get_next_job('temp', '{temp}', 2);
        select public.complete_job(id, '{"n": 1}') from public.get_next_job('temp', '{temp}');
        select queue.register_worker('temp worker', '{}', '{temp}', '{temp}');
        select queue.advance(1, p_limit => 1);
        select queue.extend_leases(1, '{1}', 1000);
        select queue.maintain();
        select queue.drop_old_partitions();
        select queue.run_plan(), queue.overview(), queue.health();`);
      const [row] = await sql<{ seen: string | null }[]>`
        select nullif(current_setting('test.seen', true), '') as seen`;

      assert.equal(row?.seen, null);
    });
  },
  { pooler: false },
);
