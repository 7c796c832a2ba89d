import { QueueError } from "../core/errors.ts";
import { callJson } from "./call.ts";
import type { Queryable } from "./sql.ts";

/** The oldest Postgres that the queue's SQL runs on. */
export const OLDEST_MAJOR = 15;

/** The server is older than what the queue needs. */
export class PostgresTooOldError extends QueueError {
  override readonly name = "PostgresTooOldError";
  readonly code = "POSTGRES_TOO_OLD";

  constructor(version: string) {
    super(`This server is Postgres ${version}, and the queue needs ${OLDEST_MAJOR} or newer`, {
      hint: "Upgrade the server, or use another one.",
    });
  }
}

/** What a server says of itself. */
export interface ServerFacts {
  /** Such as `18.4`. */
  readonly version: string;
  readonly major: number;
  readonly user: string;
  readonly database: string;
  readonly settings: Readonly<
    Record<"synchronous_commit" | "fsync" | "full_page_writes" | "autovacuum", string>
  >;
  /** How full the queue of notifications is, 0 to 1. */
  readonly notify_usage: number;
  /** The server's own clock, epoch milliseconds. */
  readonly now_ms: number;
}

export async function serverFacts(db: Queryable): Promise<ServerFacts> {
  return (await callJson(
    db,
    `select json_build_object(
       'version', split_part(current_setting('server_version'), ' ', 1),
       'major', current_setting('server_version_num')::integer / 10000,
       'user', current_user,
       'database', current_database(),
       'settings', json_build_object(
         'synchronous_commit', current_setting('synchronous_commit'),
         'fsync', current_setting('fsync'),
         'full_page_writes', current_setting('full_page_writes'),
         'autovacuum', current_setting('autovacuum')),
       'notify_usage', pg_notification_queue_usage(),
       'now_ms', extract(epoch from clock_timestamp()) * 1000)::text`,
  )) as ServerFacts;
}

/** Throws PostgresTooOldError before the SQL would fail for reasons that are hard to read. */
export async function checkServerVersion(db: Queryable): Promise<ServerFacts> {
  const facts = await serverFacts(db);
  if (facts.major < OLDEST_MAJOR) throw new PostgresTooOldError(facts.version);
  return facts;
}
