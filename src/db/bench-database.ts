import { NotAllowedError, QueueSqlError } from "../core/database-errors.ts";
import { callJson } from "./call.ts";
import type { Queryable } from "./sql.ts";

/** The role that the migrations make where it is missing. Roles belong to the whole server, not to a database. */
const WORKER_ROLE = "millrace_worker";

/**
 * The name of a database for one measurement. It holds the start by the server's clock, so that there is no moment at which a database
 * exists and its age is not known.
 */
export function benchDatabaseName(serverNowMs: number): string {
  return `millrace_bench_${Math.floor(serverNowMs / 1_000)}_${crypto.randomUUID().slice(0, 8)}`;
}

/** Throws NotAllowedError when the role may not make databases. `name` is one of `benchDatabaseName`. */
export async function createBenchDatabase(db: Queryable, name: string): Promise<void> {
  // Of template1 somebody may hold a session, and it may hold things of its owner.
  await db.query(`create database ${name} template template0`);
  await db.query(
    `comment on database ${name} is 'Made by "millrace bench", which drops it when it ends.'`,
  );
}

const DROP_TURNS = 3;

/** Drops it together with sessions that a pooler left in it. */
export async function dropBenchDatabase(
  db: Queryable,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  // By force we may not end an autovacuum worker; without it the server ends that one itself, but no session.
  for (let turn = 1; ; turn += 1) {
    const how = turn % 2 === 1 ? " with (force)" : "";
    try {
      await db.query(`drop database if exists ${name}${how}`, [], { signal });
      return;
    } catch (error) {
      if (turn === DROP_TURNS || !isOccupied(error)) throw error;
    }
  }
}

/** Whether a database was not dropped because somebody is in it. */
export function isOccupied(error: unknown): boolean {
  return (
    error instanceof NotAllowedError ||
    (error instanceof QueueSqlError && error.sqlstate === "55006")
  );
}

/** Drops one that nobody is in; does not end sessions. */
export async function dropIdleBenchDatabase(db: Queryable, name: string): Promise<void> {
  await db.query(`drop database if exists ${name}`);
}

/** Databases of measurements that were cut short: over an hour old, nobody is in them, and this role may drop them. */
export async function leftBenchDatabases(db: Queryable): Promise<string[]> {
  return (await callJson(
    db,
    `select coalesce(json_agg(d.datname order by d.datname), '[]')::text
     from pg_catalog.pg_database as d
     where to_timestamp(substring(d.datname from '^millrace_bench_([0-9]{10})_[0-9a-f]{8}$')::bigint)
             < clock_timestamp() - interval '1 hour'
       and pg_has_role(d.datdba, 'usage')
       and not exists (select from pg_catalog.pg_stat_activity as s where s.datid = d.oid)`,
  )) as string[];
}

export async function hasWorkerRole(db: Queryable): Promise<boolean> {
  return (
    (await callJson(db, `select to_json(to_regrole('${WORKER_ROLE}') is not null)::text`)) === true
  );
}

/** Drops it, unless a queue in another database has come to need it, or somebody else has made it: then the server refuses. */
export async function dropWorkerRole(db: Queryable, signal?: AbortSignal): Promise<void> {
  try {
    await db.query(`drop role if exists ${WORKER_ROLE}`, [], { signal });
  } catch (error) {
    const isNeeded = error instanceof QueueSqlError && error.sqlstate === "2BP01";
    if (!isNeeded && !(error instanceof NotAllowedError)) throw error;
  }
}

/** How much memory the server keeps tables in, such as `128MB`. */
export async function sharedBuffers(db: Queryable): Promise<string> {
  return (await callJson(db, `select to_json(current_setting('shared_buffers'))::text`)) as string;
}

/** Asks for nothing: what is left is the way there and back. */
export async function ping(db: Queryable, signal?: AbortSignal): Promise<void> {
  await db.query("select 1", [], { signal });
}
