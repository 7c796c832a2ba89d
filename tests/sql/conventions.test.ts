/**
 * What holds for every object of the schema, read from the live catalog. Each rule is a query for
 * what breaks it, and proves itself on a planted fault.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";

interface Rule {
  readonly rule: string;
  /** Names what breaks the rule. */
  readonly offenders: string;
  /** Makes something that breaks it. */
  readonly fault: string;
  readonly caught: string;
}

const OURS = `('queue'::regnamespace, 'public'::regnamespace)`;

const FUNCTIONS = `(
  select p.*, n.nspname || '.' || p.proname as name
  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
  where n.nspname in ('public', 'queue')
) as f`;

const TABLES = `(
  select c.* from pg_class as c
  where c.relnamespace = 'queue'::regnamespace and c.relkind in ('r', 'p')
) as c`;

/** A function that breaks a rule. */
function badFunction(name: string, { signature = "()", clauses = "", body = "select 1" } = {}) {
  return `create function ${name}${signature} returns integer language sql ${clauses} as $$ ${body} $$`;
}

const RULES: readonly Rule[] = [
  {
    rule: "every table, partition, view and sequence tells what it is for",
    // The sequence of an identity column is a part of its column.
    offenders: `
      select c.relname from pg_class as c
      where c.relnamespace in ${OURS} and c.relkind in ('r', 'p', 'v', 'm', 'S')
        and coalesce(obj_description(c.oid, 'pg_class'), '') = ''
        and not exists (select from pg_depend as d where d.objid = c.oid and d.deptype = 'i' and d.refobjsubid > 0)`,
    fault: "create table queue.jobs_p999 (like queue.jobs)",
    caught: "jobs_p999",
  },
  {
    rule: "who rules out sequential scans rules out JIT too: what can't be done otherwise looks so dear that it would be compiled",
    offenders: `
      select f.name from ${FUNCTIONS}
      where 'enable_seqscan=off' = any (f.proconfig) and not 'jit=off' = any (f.proconfig)`,
    fault: badFunction("queue.compiles", { clauses: "set enable_seqscan = off" }),
    caught: "queue.compiles",
  },
  {
    rule: "every type tells what it is for",
    offenders: `
      select t.typname from pg_type as t left join pg_class as c on c.oid = t.typrelid
      where t.typnamespace in ${OURS} and (t.typtype in ('e', 'd', 'r') or c.relkind = 'c')
        and coalesce(obj_description(t.oid, 'pg_type'), '') = ''`,
    fault: "create type queue.pair as (a integer, b integer)",
    caught: "pair",
  },
  {
    rule: "every schema tells what it is for",
    offenders: `
      select n.nspname from pg_namespace as n
      where n.oid in ${OURS} and coalesce(obj_description(n.oid, 'pg_namespace'), '') = ''`,
    fault: "comment on schema queue is null",
    caught: "queue",
  },
  {
    rule: "every function tells what it does",
    offenders: `
      select f.name from ${FUNCTIONS} where coalesce(obj_description(f.oid, 'pg_proc'), '') = ''`,
    fault: badFunction("queue.silent"),
    caught: "queue.silent",
  },
  {
    rule: "every function pins its search_path to what nobody can put types into",
    offenders: `
      select f.name from ${FUNCTIONS}
      where not coalesce('search_path=pg_catalog, pg_temp' = any (f.proconfig), false)`,
    // With an empty one temporary types come before those of pg_catalog.
    fault: badFunction("public.loose", { clauses: "set search_path = ''" }),
    caught: "public.loose",
  },
  {
    rule: "no function can be executed by PUBLIC",
    offenders: `
      select f.name from ${FUNCTIONS} where exists (
        select from aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) as a where a.grantee = 0)`,
    fault: badFunction("queue.open"),
    caught: "queue.open",
  },
  {
    rule: "no function can be executed by anon",
    offenders: `select f.name from ${FUNCTIONS} where has_function_privilege('anon', f.oid, 'execute')`,
    fault: "grant execute on function public.enqueue_job to anon",
    caught: "public.enqueue_job",
  },
  {
    rule: "row level security is on for every table and partition",
    offenders: `select c.relname from ${TABLES} where not c.relrowsecurity`,
    fault: "alter table queue.runs_p1 disable row level security",
    caught: "runs_p1",
  },
  {
    rule: "row level security is forced for every table and partition",
    offenders: `select c.relname from ${TABLES} where not c.relforcerowsecurity`,
    fault: "alter table queue.audit no force row level security",
    caught: "audit",
  },
  {
    rule: "every table lets its owner work under forced security",
    offenders: `
      select c.relname from ${TABLES} where not exists (
        select from pg_policy as p where p.polrelid = c.oid and p.polcmd = '*' and p.polroles = array[c.relowner])`,
    fault: "drop policy machine on queue.bells",
    caught: "bells",
  },
  {
    rule: "no policy and no function believes user_metadata, which users can edit",
    offenders: `
      select policyname::text from pg_policies where schemaname = 'queue' and concat(qual, with_check) ~ 'user_metadata'
      union all select f.name from ${FUNCTIONS} where f.prosrc ~ 'user_metadata'`,
    fault: `create policy naive on queue.jobs for select to authenticated
      using (current_setting('request.jwt.claims')::jsonb #>> '{user_metadata,tenant_id}' is not null)`,
    caught: "naive",
  },
  {
    rule: "schema public holds no tables",
    offenders: `
      select c.relname from pg_class as c
      where c.relnamespace = 'public'::regnamespace and c.relkind not in ('v', 'i')`,
    fault: "create table public.stray (x integer primary key)",
    caught: "stray",
  },
  {
    rule: "every view asks with its caller's rights",
    offenders: `
      select c.relname from pg_class as c
      where c.relnamespace in ${OURS} and c.relkind = 'v'
        and not coalesce('security_invoker=true' = any (c.reloptions), false)`,
    fault: "alter view public.job_queue set (security_invoker = false)",
    caught: "job_queue",
  },
  {
    rule: "every table has a primary key",
    offenders: `
      select c.relname from ${TABLES}
      where not exists (select from pg_constraint as k where k.conrelid = c.oid and k.contype = 'p')`,
    fault: "alter table queue.progress drop constraint progress_pkey",
    caught: "progress",
  },
  {
    rule: "no row is locked by a foreign key: whoever holds it would delay those who write the other table",
    offenders: `
      select k.conname from pg_constraint as k
      where k.contype = 'f' and k.connamespace = 'queue'::regnamespace`,
    fault:
      "alter table queue.type_queues add constraint type_queues_queue_fkey foreign key (queue_id) references queue.queues (id)",
    caught: "type_queues_queue_fkey",
  },
  {
    rule: "parameters begin with p_, results with o_, and the columns of a row with neither",
    offenders: `
      select f.name from ${FUNCTIONS}, lateral (
        select f.proargnames[i] as name, coalesce(f.proargmodes[i], 'i') as mode
        from generate_series(1, cardinality(coalesce(f.proallargtypes, f.proargtypes::oid[]))) as i
      ) as a
      where case a.mode
        when 't' then a.name ~ '^[po]_'
        when 'o' then a.name !~ '^o_'
        else coalesce(a.name, '') !~ '^p_' end`,
    fault: badFunction("queue.odd", { signature: "(p_good integer, job_id bigint)" }),
    caught: "queue.odd",
  },
  {
    rule: "no function has an overload",
    offenders: `select f.name from ${FUNCTIONS} group by f.name having count(*) > 1`,
    fault: badFunction("public.cancel_job", { signature: "(p_job_id integer)" }),
    caught: "public.cancel_job",
  },
  {
    rule: "every parameter of the contract after the first has a default",
    offenders: `
      select f.name from ${FUNCTIONS}
      where f.pronamespace = 'public'::regnamespace and f.pronargs - f.pronargdefaults > 1`,
    fault: badFunction("public.strict", { signature: "(p_a integer, p_b integer)" }),
    caught: "public.strict",
  },
  {
    rule: "the functions of the contract run with their caller's rights",
    offenders: `
      select f.name from ${FUNCTIONS} where f.pronamespace = 'public'::regnamespace and f.prosecdef`,
    fault: "alter function public.queue_stats security definer",
    caught: "public.queue_stats",
  },
  {
    rule: "every function belongs to the role that applied the migrations",
    offenders: `select f.name from ${FUNCTIONS} where f.proowner <> 'postgres'::regrole and f.name <> 'queue.clock'`,
    fault: "alter function queue.ring owner to supabase_admin",
    caught: "queue.ring",
  },
];

class Rollback extends Error {}

describeOnEachServer("by convention", (context) => {
  for (const { rule, offenders, fault, caught } of RULES) {
    it(rule, async () => {
      const { superSql } = context.db;

      const found = await superSql.unsafe(offenders).values();
      const withFault: unknown[][] = [];
      await superSql
        .begin(async (tx) => {
          await tx.unsafe(fault);
          withFault.push(...(await tx.unsafe(offenders).values()));
          throw new Rollback();
        })
        .catch((error: unknown) => {
          if (!(error instanceof Rollback)) throw error;
        });

      assert.deepEqual(found.flat(), []);
      assert.ok(withFault.flat().includes(caught), `${fault} was not caught`);
    });
  }
});
