/**
 * Who may do what, as one table for every object of ours that the catalog knows. What is new and has no line here fails, and so
 * does a right that is not in its line. Then the same by running, with jobs of two tenants in every table.
 *
 * That each function can or can't be called is tried in access.test.ts.
 */
import assert from "node:assert/strict";
import { before, it } from "node:test";
import { migrate } from "../../src/db/migrate.ts";
import { connect } from "../../src/db/postgres-js.ts";
import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { oneOfEach, signIn } from "./end-users.ts";
import { only, refusal, rigOf } from "./rig.ts";

const ROLES = ["anon", "authenticated", "millrace_worker", "service_role"] as const;

/** Rights, role by role, and the objects for which just these hold. Partitions are told as their table with `_p*`. */
const MATRIX: Readonly<Record<string, string>> = {
  nobody: `
    queue.actor() queue.adopt() queue.adopt_arrivals() queue.adopt_batch() queue.after_completion() queue.after_end()
    queue.any_lane() queue.arrivals_with_names() queue.arrive_many() queue.arrive_one() queue.audit_id_seq
    queue.authorize_enqueue() queue.backoff_ms() queue.begin_generation() queue.broadcast() queue.broadcast_progress()
    queue.arrivals_mark queue.begin_revival() queue.bury_blocked() queue.busy_lines() queue.busy_reason() queue.caller_app_role() queue.caller_tenant()
    queue.cancel_arrival() queue.cancel_blocked() queue.cancelled_by() queue.charge_quota() queue.check_element()
    queue.check_job() queue.check_jobs() queue.check_name() queue.check_options() queue.check_tenant() queue.claim()
    queue.claim_few() queue.claim_share() queue.clear_partition() queue.close_leases() queue.complete_leases()
    queue.complete_many() queue.cron_jobs() queue.detour() queue.detour_from() queue.detour_mark queue.detours_number_seq queue.doorbell()
    queue.doorbell_problems() queue.drop_partition() queue.due_mark queue.edge_lines() queue.end_detours() queue.enqueue_once() queue.ensure_generation()
    queue.epoch_ms() queue.expire_dead_letters() queue.expiry_mark queue.extend_partitions() queue.fetched() queue.find_dead()
    queue.find_unreadable() queue.fingerprint() queue.follow_clock() queue.generation_key() queue.generation_mark
    queue.grant_access() queue.grant_operator() queue.grant_realtime() queue.grant_worker() queue.has_due_work()
    queue.has_open_jobs() queue.held_parents() queue.hold_ended() queue.hold_quota() queue.how_many_fit() queue.ids_of_names() queue.install_cron()
    queue.intern_all() queue.intern_names() queue.intern_queue() queue.intern_tenant() queue.intern_type()
    queue.intern_type_queue() queue.is_alone() queue.is_droppable() queue.is_integer() queue.is_needed()
    queue.is_unsettled() queue.is_wide() queue.job_columns() queue.job_ids queue.jobs_ahead() queue.jobs_nowhere() queue.keep_fanouts() queue.key_conflict() queue.key_scope()
    queue.lane_of() queue.lanes() queue.lease_ids queue.lines() queue.live_lease() queue.live_workers()
    queue.lock_leases() queue.long_runs() queue.look_from() queue.maintain_part() queue.maintenance_problems() queue.make_partition()
    queue.make_tenant_policies() queue.make_worker() queue.may_notify() queue.may_sweep() queue.move_ids_on() queue.names_of() queue.names_mark
    queue.next_share() queue.note() queue.note_arrivals() queue.note_detour() queue.note_look() queue.number_of() queue.offer() queue.oldest_pending()
    queue.parents_ended() queue.pending_from() queue.parse_jobs() queue.part_failed() queue.part_succeeded() queue.payload_of()
    queue.post_ring() queue.priority_rank() queue.promote_due() queue.prune_bells() queue.prune_workers()
    queue.pull_token() queue.purge_cron_history() queue.put_back_claimed() queue.put_ready() queue.queues_id_seq
    queue.reconcile() queue.reconciled() queue.record_act() queue.refuse_change() queue.refuse_key() queue.rescue()
    queue.resolve_edges() queue.resolve_key() queue.revive_arrival() queue.revive_flow() queue.ring()
    queue.ring_advice() queue.ring_edge() queue.ring_for_names() queue.ring_held() queue.ring_wide()
    queue.rings_id_seq queue.routes_id_seq queue.scope_of() queue.sequences_behind() queue.server_problems()
    queue.settle() queue.sign_in() queue.single_job() queue.span() queue.squeeze() queue.sweep_racing()
    queue.take_by_weight() queue.take_edge_bell() queue.take_fair() queue.take_keys() queue.take_lane()
    queue.take_suspect() queue.take_turns() queue.tenants_id_seq queue.tidy_error() queue.try_name()
    queue.types_id_seq queue.uninstall_cron() queue.try_guard() queue.is_bloated() queue.is_trusted_schema() queue.refuse_bloated() queue.wait_for_guard() queue.was_settled() queue.weigh_edges() queue.worker_problems()
    queue.workers_id_seq queue.write_jobs()`,
  "authenticated usage; millrace_worker usage; service_role usage": `
    schema:queue`,
  "authenticated execute": `
    queue.caller_tenant_id()`,
  "authenticated execute; service_role execute": `
    queue.caller_role() queue.is_end_user() queue.priority_name()`,
  "authenticated execute; millrace_worker execute; service_role execute": `
    enqueue_job() enqueue_jobs() queue.enqueue_alike() queue.enqueue_many() queue.enqueue_one()`,
  "authenticated select; service_role select": `
    job_dead_letter job_queue job_status_history queue.dead_letters queue.jobs queue.leases queue.progress queue.ready
    queue.runs queue.scheduled queue.waiting queue.workers queue_jobs`,
  "authenticated select; service_role select, insert, update": `
    queue.queues queue.tenants queue.types`,
  "millrace_worker execute; service_role execute": `
    claim_next_job() cleanup_stuck_jobs() complete_job() fail_job() get_next_job() queue.advance() queue.answer_call()
    queue.arm_bells() queue.arm_edge_bell() queue.claim_rows() queue.cleanup() queue.clock() queue.collect_rings()
    queue.disarm_bells() queue.drop_old_partitions() queue.extend_leases() queue.forget_leases() queue.hand_over()
    queue.health() queue.heartbeat_worker() queue.job_outcome() queue.maintain() queue.open_jobs()
    queue.other_leases() queue.overview() queue.parent_results() queue.pass_held_bells() queue.register_worker()
    queue.report() queue.run_plan() queue.schema_version() queue.serves_version() queue.settle_by_job() queue.settle_one()
    queue.sweep_children() queue.trigger_worker() queue.unregister_worker() queue.work_due() queue.worker_names()
    report_progress() trigger_queue_worker()`,
  "service_role execute": `
    cancel_job() explain_job() pause_queue() purge_jobs() queue.cancel() queue.edge_status() queue.explain()
    queue.purge() queue.redrive() queue.remove_route() queue.retry() queue.set_paused() queue.set_route()
    queue.stats() queue.status_of() queue_health() queue_stats() redrive_jobs() remove_job_route() resume_queue()
    retry_job() set_job_route()`,
  "service_role select": `
    queue.arrivals queue.audit queue.bells queue.cancellations queue.dependencies queue.detours queue.failures
    queue.fanouts queue.generations queue.guards queue.handovers queue.idempotency_keys queue.jobs_p* queue.partitions
    queue.passed_bells queue.rings queue.routes queue.runs_p* queue.sweeps queue.type_queues queue.user_jobs
    queue.user_quotas`,
  "service_role select, insert, update": `
    queue.settings`,
};

interface Held {
  readonly object: string;
  readonly rights: string;
}

/** The rights of each role on each object, in the words of the matrix. Rights of PUBLIC are rights of everybody. */
async function rightsHeld({ superSql }: TestDatabase): Promise<Held[]> {
  return superSql<Held[]>`
    with object as (
      select 'schema:' || n.nspname as name, 's' as kind, n.oid
      from pg_namespace as n where n.nspname = 'queue'
      union all
      select regexp_replace(c.oid::regclass::text, '_p[0-9]+$', '_p*'), case when c.relkind = 'S' then 'S' else 'r' end, c.oid
      from pg_class as c
      where c.relnamespace in ('public'::regnamespace, 'queue'::regnamespace)
        and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      union all
      select p.oid::regproc || '()', 'f', p.oid
      from pg_proc as p where p.pronamespace in ('public'::regnamespace, 'queue'::regnamespace)
    ),
    held as (
      select object.name, object.oid, role.name as role, role.position, (
        select string_agg(asked.name, ', ' order by asked.position)
        from unnest(case object.kind
          when 's' then '{usage,create}'
          when 'f' then '{execute}'
          when 'S' then '{usage,select,update}'
          else '{select,insert,update,delete,truncate,references,trigger}'
        end::text[]) with ordinality as asked (name, position)
        where case object.kind
          when 's' then has_schema_privilege(role.name, object.oid, asked.name)
          when 'f' then has_function_privilege(role.name, object.oid, asked.name)
          when 'S' then has_sequence_privilege(role.name, object.oid, asked.name)
          else has_table_privilege(role.name, object.oid, asked.name) or (
            asked.name in ('select', 'insert', 'update', 'references')
            and has_any_column_privilege(role.name, object.oid, asked.name))
        end
      ) as rights
      from object, unnest(${[...ROLES]}::text[]) with ordinality as role (name, position)
    )
    select distinct on (object, rights) whole.* from (
      select held.name as object,
        coalesce(string_agg(held.role || ' ' || held.rights, '; ' order by held.position), 'nobody') as rights
      from held group by held.oid, held.name
    ) as whole
    order by object, rights`;
}

/** Every object with its rights, sorted, as the matrix has them. */
function rightsTold(): string[] {
  return Object.entries(MATRIX)
    .flatMap(([rights, objects]) =>
      objects
        .trim()
        .split(/\s+/)
        .map((object) => `${object}: ${rights}`),
    )
    .sort();
}

const lines = (held: readonly Held[]): string[] =>
  held.map(({ object, rights }) => `${object}: ${rights}`).sort();

describeOnEachServer("every role", (context) => {
  it("has the rights on every object that the matrix tells, and no other", async () => {
    assert.deepEqual(lines(await rightsHeld(context.db)), rightsTold());
  });
});

/** What an older Supabase project does with every object that its owner makes in `public`. */
const OLD_DEFAULTS = `
  alter default privileges for role postgres in schema public
    grant all on tables to anon, authenticated, service_role;
  alter default privileges for role postgres in schema public
    grant all on functions to anon, authenticated, service_role;
  alter default privileges for role postgres in schema public
    grant all on sequences to anon, authenticated, service_role;`;

describeOnEachServer(
  "every role but the backend's",
  (context) => {
    it("has the same rights in a project whose defaults give away all that is made in public", async () => {
      await context.db.superSql.unsafe(OLD_DEFAULTS);
      const sql = connect(context.db.url, { max: 1 });
      await migrate(sql);
      await sql.close();

      const withoutService = (line: string) =>
        line.replace(/(; | )service_role [^;]*$/, (_, before) =>
          before === "; " ? "" : " nobody",
        );
      assert.deepEqual(
        lines(await rightsHeld(context.db)).map(withoutService),
        rightsTold().map(withoutService),
      );
    });
  },
  { empty: true },
);

/** Of the relations that signed-in users can read, which rows each shows them. */
const SHOWS: Readonly<Record<string, "own jobs" | "own tenant" | "all rows" | "nothing">> = {
  job_dead_letter: "own jobs",
  job_queue: "own jobs",
  job_status_history: "own jobs",
  "queue.dead_letters": "own jobs",
  "queue.jobs": "own jobs",
  "queue.leases": "nothing",
  "queue.progress": "own jobs",
  "queue.queues": "all rows",
  "queue.ready": "own jobs",
  "queue.runs": "own jobs",
  "queue.scheduled": "own jobs",
  "queue.tenants": "own tenant",
  "queue.types": "all rows",
  "queue.waiting": "own jobs",
  "queue.workers": "nothing",
  queue_jobs: "own jobs",
};

interface Row {
  readonly id?: number;
  readonly job_id?: number;
  readonly name?: string;
}

describeOnEachServer("with rows of two tenants in every table", (context) => {
  const jobs = new Map<string, Set<string>>();
  before(async () => {
    for (const tenant of ["acme", "bolt"]) jobs.set(tenant, await fill(context.db, tenant));
    // Last, because a claim would adopt them.
    await context.db
      .sql`insert into queue.arrivals (id, created_at, type, queue, tenant_id, priority, payload)
      select nextval('queue.job_ids'), queue.clock(), 'none', 'none', tenant, 2, '{}' from unnest('{acme,bolt}'::text[]) as tenant`;
  });

  /** What a relation shows, by the ids of its jobs or else by name. */
  async function seen(sql: TestSql, relation: string): Promise<string[]> {
    const rows = await sql.unsafe<{ row: Row }[]>(
      `select to_jsonb(r) as row from ${relation} as r`,
    );
    const keys = rows.map(({ row }) => String(row.name ?? row.job_id ?? row.id));
    return [...new Set(keys)].sort();
  }

  it("no table is empty, so that what follows says something", async () => {
    const { superSql } = context.db;
    const tables = await superSql<{ name: string }[]>`
      select oid::regclass::text as name from pg_class
      where relnamespace = 'queue'::regnamespace and relkind in ('r', 'p') and not relispartition`;
    const counts = await Promise.all(
      tables.map(({ name }) => superSql.unsafe(`select from ${name} limit 1`)),
    );

    assert.deepEqual(
      tables.filter((_, index) => counts[index]?.length === 0),
      [],
    );
  });

  for (const [tenant, forged] of [
    ["acme", "bolt"],
    ["bolt", "acme"],
    [undefined, "acme"],
  ] as const) {
    it(`a user of ${tenant ?? "no tenant"} sees what is its own, and all of it, whatever else its token claims`, async () => {
      const { superSql } = context.db;
      const readable = await superSql<{ name: string }[]>`
        select oid::regclass::text as name from pg_class
        where relnamespace in ('public'::regnamespace, 'queue'::regnamespace)
          and relkind in ('r', 'p', 'v', 'm', 'f') and has_table_privilege('authenticated', oid, 'select')
        order by oid::regclass::text collate "C"`;
      const user = signIn(context.db, tenant, forged);
      const own = (tenant && jobs.get(tenant)) || new Set<string>();

      assert.deepEqual(
        readable.map(({ name }) => name),
        Object.keys(SHOWS).sort(),
      );
      for (const [relation, shows] of Object.entries(SHOWS)) {
        const all = await seen(superSql, relation);
        const expected = all.filter((key) => {
          if (shows === "own jobs") return own.has(key);
          return shows === "all rows" || (shows === "own tenant" && key === tenant);
        });
        assert.ok(all.length > 0, `${relation} has rows`);
        assert.ok(
          shows !== "own jobs" || expected.length > 0 || tenant === undefined,
          `${relation} has rows of ${tenant}`,
        );
        assert.deepEqual(await seen(user, relation), expected, relation);
      }
    });
  }

  for (const role of ROLES) {
    it(`${role} is refused to read or write what its line does not let it`, async () => {
      const relations = Object.entries(MATRIX).flatMap(([rights, objects]) =>
        objects
          .trim()
          .split(/\s+/)
          .filter((object) => !/[:()]|_seq$|_ids$|_mark$/.test(object))
          .map((name) => ({ name: name.replace("*", "1"), mine: rightsOf(rights, role) })),
      );
      const sql = context.db.connectAs(role, { app_metadata: { tenant_id: "acme" } });
      const open: string[] = [];
      for (const { name, mine } of relations) {
        for (const [right, statement] of Object.entries(statementsFor(name))) {
          if (mine.includes(right)) continue;
          const { code } = await refusal(
            sql.begin(async (tx) => {
              await tx.unsafe(statement);
              throw new Error("let through");
            }),
          );
          // 55000: nobody can write to these views.
          if (code !== "42501" && !(code === "55000" && right !== "select")) open.push(statement);
        }
      }

      assert.deepEqual(open, []);
      assert.ok(relations.length > 20);
    });
  }
});

/** The rights of one role in a key of the matrix. */
function rightsOf(rights: string, role: string): string[] {
  const part = rights.split("; ").find((each) => each.startsWith(`${role} `)) ?? "";
  return part.slice(role.length + 1).split(", ");
}

function statementsFor(relation: string): Readonly<Record<string, string>> {
  return {
    select: `select from ${relation}`,
    insert: `insert into ${relation} default values`,
    update: `update ${relation} set ${COLUMN[relation] ?? "id"} = default`,
    delete: `delete from ${relation}`,
  };
}

/** A column of those that have no id. */
const COLUMN: Readonly<Record<string, string>> = {
  job_status_history: "job_id",
  "queue.bells": "worker_id",
  "queue.cancellations": "job_id",
  "queue.dead_letters": "job_id",
  "queue.dependencies": "child_id",
  "queue.fanouts": "parent_id",
  "queue.detours": "scope",
  "queue.failures": "part",
  "queue.generations": "first_lease_id",
  "queue.guards": "name",
  "queue.handovers": "job_id",
  "queue.idempotency_keys": "job_id",
  "queue.partitions": "number",
  "queue.passed_bells": "number",
  "queue.progress": "job_id",
  "queue.runs": "job_id",
  "queue.runs_p1": "job_id",
  "queue.settings": "only_row",
  "queue.sweeps": "scope",
  "queue.type_queues": "type_id",
  "queue.user_jobs": "job_id",
  "queue.user_quotas": "tenant_id",
};

/** Puts rows of a tenant into every table; the ids of its jobs. */
async function fill(db: TestDatabase, tenant: string): Promise<Set<string>> {
  const { enqueue, start, sql } = rigOf(db);
  await oneOfEach(db, tenant);
  await enqueue("keyed", { tenant, key: "k" });
  const unwanted = await start(`unwanted-of-${tenant}`, { tenant });
  await sql`select public.cancel_job(${unwanted.id})`;
  await sql`update queue.types set is_public = true where name = 'keyed'`;
  await rigOf(db, signIn(db, tenant, "nobody")).enqueue("keyed");
  await sql`insert into queue.bells select queues.id, workers.id from queue.queues, queue.workers on conflict do nothing`;
  await sql`insert into queue.passed_bells select queue_id, worker_id, 1 from queue.bells on conflict do nothing`;
  await sql`select public.set_job_route('routed', p_function => 'routed')`;
  await sql`insert into queue.rings (at, reason) values (queue.clock(), 'tick')`;
  await sql`insert into queue.sweeps values (1, queue.clock()) on conflict do nothing`;
  await sql`
    insert into queue.failures
    values ('rescue', 1, queue.clock(), queue.clock(), queue.clock(), '23503', 'no') on conflict do nothing`;
  await sql`insert into queue.detours (scope, at, pause_ms, mark) values (1, queue.clock(), 200, '{}')`;
  await sql`insert into queue.fanouts values (${unwanted.id}, 'cancelled', 0, queue.clock()) on conflict do nothing`;
  await sql`insert into queue.handovers values (nextval('queue.lease_ids'), ${unwanted.id}, 1)`;
  const rows = await sql<
    { id: string }[]
  >`select id from public.job_queue where tenant_id = ${tenant}`;
  return new Set(rows.map(({ id }) => only(id)));
}
