import { callJson, numberArray } from "./call.ts";
import type { Queryable } from "./sql.ts";

export interface ExtendAnswer {
  /** The leases that still hold. */
  readonly alive: readonly string[];
  /** Those that somebody else holds locked: they keep their end, but nobody can take them away until they are free. */
  readonly busy: readonly string[];
  /** [lease, id] of running jobs that somebody wants cancelled. */
  readonly cancelled: readonly (readonly [string, string])[];
  readonly now: number;
  readonly expires_at: number;
}

/** Pushes the end of leases forward. Those that are not in the answer are lost. */
export async function extendLeases(
  db: Queryable,
  request: { worker: number; leases: readonly string[]; leaseMs: number },
  signal?: AbortSignal,
): Promise<ExtendAnswer> {
  return (await callJson(
    db,
    `select queue.extend_leases(p_worker => $1::text::integer, p_lease_ids => $2::text::bigint[],
       p_lease_ms => $3::text::integer)::text`,
    [String(request.worker), numberArray(request.leases), String(request.leaseMs)],
    { signal },
  )) as ExtendAnswer;
}
