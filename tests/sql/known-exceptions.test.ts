/**
 * Where the rules have exceptions: the literal lists of the functions that were allowed to, read
 * from the live catalog. Whoever adds one adds it here, on purpose.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import type postgres from "postgres";
import { describeOnEachServer } from "../support/suite.ts";

/** Functions of both schemas, with their schema in the name. */
const FUNCTIONS = `select p.*, n.nspname || '.' || p.proname as name
  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
  where n.nspname in ('public', 'queue')`;

/** The first column of each row, sorted. */
async function names(query: postgres.PendingQuery<postgres.Row[]>): Promise<string[]> {
  const rows = await query.values();
  return rows.map(([name]) => String(name)).sort();
}

describeOnEachServer("of the functions, only these", (context) => {
  const functionsWith = (condition: string) =>
    names(
      context.db.superSql.unsafe(
        `select f.proname from (${FUNCTIONS}) as f
         where f.name <> 'queue.clock' and ${condition}`,
      ),
    );

  it("functions that run with their owner's rights", async () => {
    assert.deepEqual(await functionsWith("f.prosecdef"), [
      "advance",
      "answer_call",
      "arm_bells",
      "arm_edge_bell",
      "caller_tenant_id",
      "cancel",
      "claim_rows",
      "cleanup",
      "collect_rings",
      "disarm_bells",
      "drop_old_partitions",
      "edge_status",
      "enqueue_alike",
      "enqueue_many",
      "enqueue_one",
      "explain",
      "extend_leases",
      "forget_leases",
      "hand_over",
      "health",
      "heartbeat_worker",
      "job_outcome",
      "maintain",
      "open_jobs",
      "other_leases",
      "overview",
      "parent_results",
      "pass_held_bells",
      "purge",
      "redrive",
      "register_worker",
      "remove_route",
      "report",
      "retry",
      "run_plan",
      "set_paused",
      "set_route",
      "settle_by_job",
      "settle_one",
      "stats",
      "status_of",
      "sweep_children",
      "trigger_worker",
      "unregister_worker",
      "work_due",
      "worker_names",
    ]);
  });

  it("functions that open a subtransaction: none of those that claim, settle or rescue", async () => {
    assert.deepEqual(await functionsWith(String.raw`f.prosrc ~* '\mexception\s+when\M'`), [
      // Only where a job came while another transaction was making its names.
      "adopt_arrivals",
      "arm_edge_bell",
      // Once for each start of the server: its lock must be let go of whatever happens.
      "begin_generation",
      // Called when an attempt has ended, and only where messages to browsers are switched on.
      "broadcast",
      // For what is refused, or seen for the first time.
      "check_element",
      "collect_rings",
      "drop_old_partitions",
      "find_unreadable",
      "install_cron",
      "intern_all",
      "intern_names",
      "maintain",
      // For a caller seen for the first time.
      "make_worker",
      "parse_jobs",
      "post_ring",
      // Gives up rather than to wait for somebody.
      "report",
      "ring_wide",
      "take_edge_bell",
      "trigger_worker",
      "try_name",
    ]);
  });

  it("functions with dynamic SQL: partitions and grants, whose names can't be parameters", async () => {
    assert.deepEqual(await functionsWith(String.raw`f.prosrc ~* '\mexecute\s+(format|''|v_)'`), [
      "adopt",
      "drop_partition",
      "grant_operator",
      "grant_worker",
      "is_droppable",
      "make_partition",
      "make_tenant_policies",
    ]);
  });

  it("functions that notify, which takes a global lock at commit", async () => {
    assert.deepEqual(await functionsWith(String.raw`f.prosrc ~* '\m(pg_notify|notify)\M'`), [
      "cancel",
      // Looks at the queue of notifications; sends none.
      "may_notify",
      "offer",
      "ring",
      "ring_for_names",
      "ring_held",
      "ring_wide",
    ]);
  });

  it("nobody but queue.clock() reads a clock", async () => {
    const words = String.raw`\m(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday)\s*\(|\mcurrent_(timestamp|date|time)\M|\mlocaltime`;
    const views = await names(
      context.db.superSql.unsafe(
        `select v.viewname from pg_views as v
         where v.schemaname in ('public', 'queue') and v.definition ~* '${words}'`,
      ),
    );

    assert.deepEqual(await functionsWith(`f.prosrc ~* '${words}'`), []);
    assert.deepEqual(views, []);
  });

  it("what the worker's role may execute", async () => {
    const rows = await context.db.superSql.unsafe(
      `select f.name from (${FUNCTIONS}) as f where has_function_privilege('millrace_worker', f.oid, 'execute')
       order by f.name collate "C"`,
    );

    assert.deepEqual(
      rows.map((row) => row["name"]),
      [
        "public.claim_next_job",
        "public.cleanup_stuck_jobs",
        "public.complete_job",
        "public.enqueue_job",
        "public.enqueue_jobs",
        "public.fail_job",
        "public.get_next_job",
        "public.report_progress",
        "public.trigger_queue_worker",
        "queue.advance",
        "queue.answer_call",
        "queue.arm_bells",
        "queue.arm_edge_bell",
        "queue.claim_rows",
        "queue.cleanup",
        "queue.clock",
        "queue.collect_rings",
        "queue.disarm_bells",
        "queue.drop_old_partitions",
        "queue.enqueue_alike",
        "queue.enqueue_many",
        "queue.enqueue_one",
        "queue.extend_leases",
        "queue.forget_leases",
        "queue.hand_over",
        "queue.health",
        "queue.heartbeat_worker",
        "queue.job_outcome",
        "queue.maintain",
        "queue.open_jobs",
        "queue.other_leases",
        "queue.overview",
        "queue.parent_results",
        "queue.pass_held_bells",
        "queue.register_worker",
        "queue.report",
        "queue.run_plan",
        "queue.schema_version",
        "queue.serves_version",
        "queue.settle_by_job",
        "queue.settle_one",
        "queue.sweep_children",
        "queue.trigger_worker",
        "queue.unregister_worker",
        "queue.work_due",
        "queue.worker_names",
      ],
    );
  });

  it("the worker's role reads no table, view or sequence, and can't log in", async () => {
    const readable = await names(
      context.db.superSql`
        select c.relname from pg_class as c
        where c.relnamespace in ('queue'::regnamespace, 'public'::regnamespace)
          and case when c.relkind = 'S' then has_sequence_privilege('millrace_worker', c.oid, 'usage, select, update')
            when c.relkind in ('r', 'p', 'v') then
              has_table_privilege('millrace_worker', c.oid, 'select, insert, update, delete, truncate, references, trigger')
            end`,
    );
    const [role] = await context.db.superSql`
      select rolcanlogin, rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = 'millrace_worker'`;

    assert.deepEqual(readable, []);
    assert.deepEqual(
      { ...role },
      { rolcanlogin: false, rolsuper: false, rolbypassrls: false, rolcreaterole: false },
    );
  });
});
