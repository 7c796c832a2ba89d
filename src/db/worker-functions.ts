import { callJson, callText, numberArray } from "./call.ts";
import { type ClaimedColumns, type ClaimedRow, markInexact, toRows } from "./claimed-jobs.ts";
import type { Queryable } from "./sql.ts";

/** Shows that a worker lives; false when it is no longer known and has to register again. */
export async function heartbeatWorker(
  db: Queryable,
  worker: number,
  details: unknown,
  signal?: AbortSignal,
): Promise<boolean> {
  const answer = await callJson(
    db,
    `select to_json(queue.heartbeat_worker(p_worker => $1::text::integer, p_details => $2::text::jsonb))::text`,
    [String(worker), JSON.stringify(details)],
    { signal },
  );
  return answer === true;
}

export async function unregisterWorker(
  db: Queryable,
  worker: number,
  signal?: AbortSignal,
): Promise<void> {
  await callJson(
    db,
    `select queue.unregister_worker(p_worker => $1::text::integer)::text`,
    [String(worker)],
    { signal },
  );
}

/** The jobs and queues that one part of a worker serves. Ids as `registerWorker` gave them, as array texts. */
export interface LaneScope {
  /** Null: every queue that holds one of the types. */
  readonly queueIds: string | null;
  readonly exceptQueueIds: string | null;
  readonly typeIds: string;
  /** Null: all tenants. */
  readonly tenantId: string | null;
  /** The most jobs of each tenant over all claims that pass on the mark; null: no limit. */
  readonly perTenant: string | null;
}

/** What finished, in parallel arrays (as array texts), and how many jobs to claim next. */
export interface AdvanceRequest extends LaneScope {
  readonly worker: number;
  /** Leases whose jobs all completed, and how many jobs each has. */
  readonly wholeLeases: string | null;
  readonly wholeSizes: string | null;
  /** For each job of the first lease in its order, then of the second, and so on. */
  readonly wholeElapsedMs: string | null;
  /** JSON array, parallel to that. */
  readonly wholeResults: string | null;
  readonly doneLeases: string | null;
  readonly doneIds: string | null;
  readonly doneElapsedMs: string | null;
  /** JSON array parallel to the ids. */
  readonly doneResults: string | null;
  /** JSON array of the settlements that are not plain completions. */
  readonly rest: string | null;
  readonly limit: number;
  readonly leaseMs: number;
  /** The mark of this lane's last answer as JSON; null looks at everything. */
  readonly mark: string | null;
}

export interface AdvanceAnswer {
  /** Leases of `wholeLeases` that were lost. */
  readonly lost: readonly string[] | null;
  /** [lease, id] of settlements that came too late. */
  readonly refused: readonly (readonly [string, string])[];
  /** Leases of `wholeLeases` that somebody else holds locked: nothing of them was settled, and it can be tried again. */
  readonly busy_leases?: readonly string[] | null;
  /** The same for single settlements. */
  readonly busy?: readonly (readonly [string, string])[] | null;
  /** Jobs that wait for ended ones have yet to be freed or cancelled: see `sweepChildren`. */
  readonly has_children_left?: boolean;
  /** What became of the jobs in `rest`, by id. */
  readonly statuses: Readonly<Record<string, string>>;
  /** Milliseconds until jobs in `rest` are tried again, by id. */
  readonly retry_in_ms?: Readonly<Record<string, number>>;
  readonly now: number;
  readonly expires_at: number | null;
  readonly jobs: readonly ClaimedRow[];
  /** The claim found more than the answer holds: payloads of some MiB. */
  readonly is_cut: boolean;
  /** `fair`: the lane that was served last. */
  readonly mark: { readonly fair?: number } | null;
  /** The claim brought as much as it could take, and no other worker has claimed for a second. */
  readonly is_alone: boolean;
  /** Only without jobs: when the next scheduled job falls due. */
  readonly next_due_in_ms: number | null;
}

const ADVANCE = `select queue.advance(p_worker => $1::text::integer,
  p_whole_leases => $2::text::bigint[], p_whole_sizes => $3::text::integer[],
  p_whole_elapsed_ms => $4::text::integer[], p_whole_results => $5::text::json,
  p_done_leases => $6::text::bigint[], p_done_ids => $7::text::bigint[],
  p_done_elapsed_ms => $8::text::integer[], p_done_results => $9::text::json,
  p_rest => $10::text::jsonb, p_limit => $11::text::integer, p_queue_ids => $12::text::integer[],
  p_except_queue_ids => $13::text::integer[], p_type_ids => $14::text::integer[],
  p_lease_ms => $15::text::integer, p_mark => $16::text::json, p_tenant_id => $17::text::integer,
  p_per_tenant => $18::text::integer)::text`;

type RawAnswer = Omit<AdvanceAnswer, "jobs"> & { readonly jobs: ClaimedColumns | null };

/** Settles what finished and claims what comes next, in one round trip and one commit. `size` is the answer's length in characters. */
export async function advance(
  db: Queryable,
  request: AdvanceRequest,
  signal?: AbortSignal,
): Promise<{ answer: AdvanceAnswer; size: number }> {
  const params = [
    String(request.worker),
    request.wholeLeases,
    request.wholeSizes,
    request.wholeElapsedMs,
    request.wholeResults,
    request.doneLeases,
    request.doneIds,
    request.doneElapsedMs,
    request.doneResults,
    request.rest,
    String(request.limit),
    request.queueIds,
    request.exceptQueueIds,
    request.typeIds,
    String(request.leaseMs),
    request.mark,
    request.tenantId,
    request.perTenant,
  ];
  const text = await callText(db, ADVANCE, params, { signal });
  const answer = JSON.parse(text ?? "null") as RawAnswer;
  markInexact(text ?? "", answer.jobs);
  return { answer: { ...answer, jobs: toRows(answer.jobs) }, size: text?.length ?? 0 };
}

/** How a worker takes jobs without asking for them. */
export interface OfferTerms {
  /** A channel that nobody else knows. */
  readonly channel: string;
  /** How long the worker has to begin. */
  readonly offerMs: number;
}

/** Tells the database that we were woken past a bell which an open transaction holds: from now on it wakes us no more. */
export async function passHeldBells(
  db: Queryable,
  worker: number,
  signal?: AbortSignal,
): Promise<void> {
  await callJson(
    db,
    `select queue.pass_held_bells(p_worker => $1::text::integer)::text`,
    [String(worker)],
    { signal },
  );
}

/**
 * Says that this worker is about to sleep and wants a NOTIFY for the next job; rings once. With terms the next job itself may
 * come, on their channel. Begins with an offered lease, if one is named, and answers whether that still held.
 */
export async function armBells(
  db: Queryable,
  worker: number,
  scope: Pick<LaneScope, "queueIds" | "typeIds">,
  terms: OfferTerms | null,
  accept: { readonly lease: string; readonly leaseMs: number } | null,
  signal?: AbortSignal,
): Promise<boolean> {
  const answer = await callJson(
    db,
    `select to_json(queue.arm_bells(p_worker => $1::text::integer, p_queue_ids => $2::text::integer[],
       p_type_ids => $3::text::integer[], p_channel => $4::text, p_offer_ms => $5::text::integer,
       p_accept => $6::text::bigint, p_lease_ms => $7::text::integer))::text`,
    [
      String(worker),
      scope.queueIds,
      scope.typeIds,
      terms?.channel ?? null,
      terms ? String(terms.offerMs) : null,
      accept?.lease ?? null,
      accept ? String(accept.leaseMs) : null,
    ],
    { signal },
  );
  return answer === true;
}

/** Takes back what `armBells` said: no job shall come to this worker any more. */
export async function disarmBells(
  db: Queryable,
  worker: number,
  signal?: AbortSignal,
): Promise<void> {
  await callJson(
    db,
    `select queue.disarm_bells(p_worker => $1::text::integer)::text`,
    [String(worker)],
    { signal },
  );
}

/** Rescues, sweeps, makes partitions and prunes: what has to be done now and then, by whoever comes by. */
export async function maintain(
  db: Queryable,
  signal?: AbortSignal,
): Promise<Record<string, unknown>> {
  return (await callJson(db, `select queue.maintain()::text`, [], { signal })) as Record<
    string,
    unknown
  >;
}

/**
 * Drops a partition that is past its retention, or does a part of it. A call of its own: its locks end with its transaction.
 * Answers how many were dropped: 1 or 0.
 */
export async function dropOldPartitions(db: Queryable, signal?: AbortSignal): Promise<number> {
  // Both are one transaction of the server's own: where the default isolation is stricter, the look under the locks would be at an
  // older snapshot, and the call refuses to drop.
  const rows: readonly unknown[] = await db.query(
    `set transaction isolation level read committed; select queue.drop_old_partitions() as dropped`,
    [],
    { signal },
  );
  const [row] = rows.flat() as readonly { readonly dropped: number }[];
  return row?.dropped ?? 0;
}

/** The leases of a worker that it does not name: of claims under way, or of claims whose answer it never heard. */
export async function otherLeases(
  db: Queryable,
  worker: number,
  known: readonly string[],
  signal?: AbortSignal,
): Promise<readonly string[]> {
  return (await callJson(
    db,
    `select queue.other_leases(p_worker => $1::text::integer, p_known_leases => $2::text::bigint[])::text`,
    [String(worker), numberArray(known)],
    { signal },
  )) as string[];
}

/** Gives back the jobs of leases that none of the worker's claims has brought; answers how many. */
export async function forgetLeases(
  db: Queryable,
  worker: number,
  leases: readonly string[],
  signal?: AbortSignal,
): Promise<number> {
  return (await callJson(
    db,
    `select to_json(queue.forget_leases(p_worker => $1::text::integer, p_lease_ids => $2::text::bigint[]))::text`,
    [String(worker), numberArray(leases)],
    { signal },
  )) as number;
}
