import { callJson, textArray } from "./call.ts";
import type { Queryable } from "./sql.ts";

/** Which of these functions (`schema.name`, no overloads) this role may not execute; also those that don't exist. */
export async function forbiddenFunctions(
  db: Queryable,
  names: readonly string[],
): Promise<string[]> {
  return (await callJson(
    db,
    `select coalesce(json_agg(given.name order by given.name), '[]')::text
     from unnest($1::text::text[]) as given (name)
     where not exists (
       select from pg_catalog.pg_proc as known
       join pg_catalog.pg_namespace as home on home.oid = known.pronamespace
       where home.nspname || '.' || known.proname = given.name
         and has_schema_privilege(home.oid, 'usage') and has_function_privilege(known.oid, 'execute'))`,
    [textArray(names)],
  )) as string[];
}

export interface OpenTransaction {
  readonly pid: number;
  readonly application: string;
  readonly state: string;
  readonly seconds: number;
}

export interface Snapshots {
  /** Sessions that have held a snapshot for longer than asked, oldest first. */
  readonly transactions: readonly OpenTransaction[];
  readonly prepared: number;
  /** False when other roles' sessions are hidden from this one. */
  readonly seesAll: boolean;
}

/** What keeps dead rows from being vacuumed. */
export async function oldSnapshots(db: Queryable, olderThanSeconds: number): Promise<Snapshots> {
  return (await callJson(
    db,
    `select json_build_object(
       'transactions', (
         select coalesce(json_agg(json_build_object('pid', old.pid, 'application', old.application_name,
           'state', old.state, 'seconds', round(old.seconds)) order by old.seconds desc), '[]')
         from (
           select session.*, extract(epoch from clock_timestamp() - session.xact_start) as seconds
           from pg_catalog.pg_stat_activity as session
           where session.backend_xmin is not null and session.pid <> pg_backend_pid()
         ) as old
         where old.seconds > $1::text::double precision),
       'prepared', (
         select count(*) from pg_catalog.pg_prepared_xacts as waiting
         where extract(epoch from clock_timestamp() - waiting.prepared) > $1::text::double precision),
       'seesAll', pg_has_role('pg_read_all_stats', 'usage'))::text`,
    [String(olderThanSeconds)],
  )) as Snapshots;
}

export interface WorkerFacts {
  readonly alive: number;
  /** Types with pending jobs, and how many, that no live worker handles. */
  readonly orphans: readonly { readonly type: string; readonly pending: number }[];
  readonly pending: boolean;
}

export async function workerFacts(db: Queryable): Promise<WorkerFacts> {
  return (await callJson(
    db,
    `with live as (
       select worker.type_names from queue.workers as worker
       where worker.is_registered and worker.seen_at
         > queue.clock() - (select settings.worker_timeout from queue.settings as settings)
     ),
     waiting as (
       select type.name as type, count(*) as pending
       from queue.ready as token join queue.types as type on type.id = token.type_id
       group by type.name
     )
     select json_build_object(
       'alive', (select count(*) from live),
       'pending', exists (select from queue.ready),
       'orphans', (
         select coalesce(json_agg(waiting order by waiting.type), '[]') from waiting
         where not exists (
           select from live where live.type_names is null or waiting.type = any (live.type_names)))
     )::text`,
  )) as WorkerFacts;
}

export interface LeaseFacts {
  /** Leases that ran out more than a minute ago. */
  readonly stuck: number;
  readonly jobs: number;
}

export async function stuckLeases(db: Queryable): Promise<LeaseFacts> {
  return (await callJson(
    db,
    `select json_build_object('stuck', count(*), 'jobs', coalesce(sum(cardinality(lease.job_ids)), 0))::text
     from queue.leases as lease where lease.expires_at < queue.clock() - interval '1 minute'`,
  )) as LeaseFacts;
}

/** How many partitions wait for ids that are yet to come. */
export async function partitionsAhead(db: Queryable): Promise<number> {
  return (await callJson(
    db,
    `select to_json(count(*))::text from queue.partitions as part, queue.job_ids as ids
     where part.first_id > ids.last_value`,
  )) as number;
}

/** Tables of the queue for which autovacuum was switched off. */
export async function unvacuumedTables(db: Queryable): Promise<string[]> {
  return (await callJson(
    db,
    `select coalesce(json_agg(class.relname order by class.relname), '[]')::text
     from pg_catalog.pg_class as class
     where class.relnamespace = to_regnamespace('queue')
       and 'autovacuum_enabled=false' = any (class.reloptions)`,
  )) as string[];
}
