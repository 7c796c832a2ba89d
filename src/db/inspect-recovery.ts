import { callJson } from "./call.ts";
import type { Queryable } from "./sql.ts";

/** One finding of `queue.reconcile`. */
export interface Repair {
  readonly code: string;
  readonly found: number;
  readonly is_repairable: boolean;
  readonly is_repaired: boolean;
  /** One sentence without a trailing period. */
  readonly message: string;
}

/** What does not fit together after a failover or a restore; with `dryRun: false` it repairs what it can. */
export async function reconcile(
  db: Queryable,
  { dryRun }: { readonly dryRun: boolean },
): Promise<readonly Repair[]> {
  return (await callJson(db, "select queue.reconcile($1::text::boolean)::text", [
    String(dryRun),
  ])) as Repair[];
}

/** A start of the server, as the queue noticed it. */
export interface Generation {
  readonly cause: "install" | "restart" | "crash" | "promotion" | "restore";
  /** ISO 8601. */
  readonly begun_at: string;
  readonly seconds_ago: number;
  readonly timeline: number;
  readonly first_job_id: string | null;
}

/** The last start of the server; null where this role sees none. */
export async function lastGeneration(db: Queryable): Promise<Generation | null> {
  return (await callJson(
    db,
    `select json_build_object('cause', last.cause, 'begun_at', last.begun_at, 'timeline', last.timeline,
       'seconds_ago', extract(epoch from queue.clock() - last.begun_at), 'first_job_id', last.first_job_id::text)::text
     from queue.generations as last order by last.first_lease_id desc limit 1`,
  )) as Generation | null;
}

export interface ReplicationFacts {
  readonly isStandby: boolean;
  /** `synchronous_standby_names`. */
  readonly wanted: string;
  /** `synchronous_commit`: how far a commit waits for a standby. */
  readonly commit: string;
  /** Sessions whose commit has waited for a standby for more than five seconds. */
  readonly waiting: number;
  readonly standbys: readonly { readonly name: string; readonly sync: string | null }[];
  /** False when other roles' sessions are hidden from this one. */
  readonly seesAll: boolean;
}

/** How this server is copied, and whether commits wait for a copy that does not answer. */
export async function replicationFacts(db: Queryable): Promise<ReplicationFacts> {
  return (await callJson(
    db,
    `select json_build_object(
       'isStandby', pg_is_in_recovery(),
       'wanted', current_setting('synchronous_standby_names'),
       'commit', current_setting('synchronous_commit'),
       'waiting', (
         select count(*) from pg_catalog.pg_stat_activity as session
         where session.wait_event = 'SyncRep' and session.query_start < clock_timestamp() - interval '5 seconds'),
       'standbys', (
         select coalesce(json_agg(json_build_object('name', copy.application_name, 'sync', copy.sync_state)
           order by copy.application_name), '[]')
         from pg_catalog.pg_stat_replication as copy),
       'seesAll', pg_has_role('pg_read_all_stats', 'usage'))::text`,
  )) as ReplicationFacts;
}
