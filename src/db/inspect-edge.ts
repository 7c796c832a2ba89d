import { callJson } from "./call.ts";
import type { Queryable } from "./sql.ts";

/** A job of pg_cron that is ours. */
export interface CronJob {
  readonly name: string;
  readonly schedule: string;
  readonly active: boolean;
  /** Its last run that ended, in ISO 8601; null when it has not run yet. */
  readonly last_run: {
    readonly at: string;
    readonly status: string;
    readonly message: string | null;
  } | null;
}

/** What an Edge worker needs, and what of it is there; `queue.edge_status()`. */
export interface EdgeStatus {
  readonly checked_at: string;
  readonly pg_net: boolean;
  readonly vault: boolean;
  readonly pg_cron: boolean;
  readonly has_url: boolean;
  readonly has_token: boolean;
  /** Whether the doorbell can be rung: extensions and secrets are there. */
  readonly is_ready: boolean;
  readonly is_armed: boolean;
  readonly last_ring: {
    readonly at: string;
    readonly reason: string;
    readonly status_code: number | null;
    readonly finished_at: string | null;
  } | null;
  readonly problems: readonly { readonly code: string; readonly message: string }[];
  /** Null without pg_cron. */
  readonly cron_jobs: readonly CronJob[] | null;
  /** Names of the jobs that `queue.install_cron()` sets up. */
  readonly cron_wanted: readonly string[];
}

/** What there is of an Edge worker's doorbell and clock. */
export async function edgeStatus(db: Queryable): Promise<EdgeStatus> {
  return (await callJson(db, "select queue.edge_status()::text")) as EdgeStatus;
}
