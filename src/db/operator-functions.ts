import { callJson, numberArray } from "./call.ts";
import type { Queryable } from "./sql.ts";

/** One row of the view `job_queue`. Times are ISO 8601 texts. */
export interface JobRow {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly status: string;
  readonly priority: string;
  readonly payload: unknown;
  readonly tenant_id: string | null;
  readonly scheduled_at: string | null;
  readonly attempts: number;
  readonly max_retries: number;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly worker_id: string | null;
  readonly last_error: string | null;
  readonly error: unknown;
  readonly result: unknown;
  readonly progress_percent: number | null;
  readonly progress_message: string | null;
  readonly progress_data: unknown;
  readonly depends_on: readonly string[];
  readonly options: unknown;
}

/** Ids as text: a bigint may be larger than what a JavaScript number holds. */
const JOB_AS_JSON = `to_jsonb(job) || jsonb_build_object('id', job.id::text, 'depends_on', job.depends_on::text[])`;

export async function readJob(db: Queryable, id: string): Promise<JobRow | null> {
  return (await callJson(
    db,
    `select (${JOB_AS_JSON})::text from public.job_queue as job where job.id = $1::text::bigint`,
    [id],
  )) as JobRow | null;
}

export interface JobFilter {
  readonly status?: string | undefined;
  readonly type?: string | undefined;
  readonly queue?: string | undefined;
  readonly tenantId?: string | undefined;
  /** Only jobs with a smaller id: the last id of the page before. */
  readonly beforeId?: string | undefined;
  /** @default 50 */
  readonly limit?: number | undefined;
}

/** Jobs that match, newest first. */
export async function listJobs(db: Queryable, filter: JobFilter = {}): Promise<JobRow[]> {
  return (await callJson(
    db,
    `select coalesce(jsonb_agg(${JOB_AS_JSON} order by job.id desc), '[]')::text
     from (
       select * from public.job_queue as every
       where ($1::text is null or every.status = $1::text)
         and ($2::text is null or every.type = $2::text)
         and ($3::text is null or every.queue = $3::text)
         and ($4::text is null or every.tenant_id = $4::text)
         and ($5::text is null or every.id < $5::text::bigint)
       order by every.id desc
       limit $6::text::integer
     ) as job`,
    [
      filter.status ?? null,
      filter.type ?? null,
      filter.queue ?? null,
      filter.tenantId ?? null,
      filter.beforeId ?? null,
      String(filter.limit ?? 50),
    ],
  )) as JobRow[];
}

/** One change of a job's status. */
export interface StatusChange {
  readonly from_status: string | null;
  readonly to_status: string;
  readonly at: string;
  readonly attempt: number | null;
  readonly worker_id: string | null;
  /** Who did it, where it was no worker: a role, with the user's id where there is one. */
  readonly actor: string | null;
  readonly reason: string | null;
}

export async function readHistory(db: Queryable, id: string): Promise<StatusChange[]> {
  return (await callJson(
    db,
    `select coalesce(jsonb_agg(to_jsonb(step) - 'job_id' - 'seq' - 'part' order by step.seq, step.part), '[]')::text
     from public.job_status_history as step where step.job_id = $1::text::bigint`,
    [id],
  )) as StatusChange[];
}

/** The job's status now; `processing` means that its handler was asked to stop. Null for an unknown job. */
export async function cancelJob(
  db: Queryable,
  id: string,
  reason: string | undefined,
): Promise<string | null> {
  return (await callJson(
    db,
    `select to_json(public.cancel_job(p_job_id => $1::text::bigint, p_reason => $2::text))::text`,
    [id, reason ?? null],
  )) as string | null;
}

/**
 * The job's status now; null when it can't be run (again). `withDescendants`: jobs that were cancelled because of it wait for it again.
 */
export async function retryJob(
  db: Queryable,
  id: string,
  reason: string | undefined,
  withDescendants = false,
): Promise<string | null> {
  return (await callJson(
    db,
    `select to_json(public.retry_job(p_job_id => $1::text::bigint, p_reason => $2::text,
       p_with_descendants => $3::text::boolean))::text`,
    [id, reason ?? null, String(withDescendants)],
  )) as string | null;
}

/** Which dead letters; what is left out matches any. */
export interface DeadLetterFilter {
  readonly ids?: readonly string[] | undefined;
  readonly type?: string | undefined;
  readonly tenantId?: string | undefined;
  readonly fingerprint?: string | undefined;
  readonly failedBefore?: Date | undefined;
  /** @default 1000 */
  readonly limit?: number | undefined;
  /** Only tell what would be done. @default false */
  readonly dryRun?: boolean | undefined;
  readonly reason?: string | undefined;
}

export interface RedrivenJob {
  readonly id: string;
  /** Differs from `id` when the job's facts had left with their retention. */
  readonly new_id: string;
  readonly type: string;
  readonly tenant_id: string | null;
  readonly failed_at: string;
  readonly last_error: string;
}

const DEAD_LETTER_ARGUMENTS = `p_ids => $1::text::bigint[], p_type => $2::text, p_tenant_id => $3::text,
  p_fingerprint => $4::text, p_failed_before => $5::text::timestamptz, p_limit => $6::text::integer,
  p_dry_run => $7::text::boolean, p_reason => $8::text`;

export interface RedriveFilter extends DeadLetterFilter {
  /** Jobs that were cancelled because of these wait for them again, and so on. @default false */
  readonly withDescendants?: boolean | undefined;
}

/** Makes dead letters pending again, with a fresh budget of attempts. */
export async function redriveJobs(db: Queryable, filter: RedriveFilter): Promise<RedrivenJob[]> {
  return (await callJson(
    db,
    `select coalesce(jsonb_agg(to_jsonb(job)
       || jsonb_build_object('id', job.id::text, 'new_id', job.new_id::text)), '[]')::text
     from public.redrive_jobs(${DEAD_LETTER_ARGUMENTS}, p_with_descendants => $9::text::boolean) as job`,
    [...deadLetterParams(filter), String(filter.withDescendants ?? false)],
  )) as RedrivenJob[];
}

/** Deletes dead letters; answers how many. */
export async function purgeJobs(db: Queryable, filter: DeadLetterFilter): Promise<number> {
  return (await callJson(
    db,
    `select to_json(public.purge_jobs(${DEAD_LETTER_ARGUMENTS}))::text`,
    deadLetterParams(filter),
  )) as number;
}

function deadLetterParams(filter: DeadLetterFilter): (string | null)[] {
  return [
    numberArray(filter.ids ?? null),
    filter.type ?? null,
    filter.tenantId ?? null,
    filter.fingerprint ?? null,
    filter.failedBefore?.toISOString() ?? null,
    String(filter.limit ?? 1_000),
    String(filter.dryRun ?? false),
    filter.reason ?? null,
  ];
}

/** True when the queue was not paused before. */
export async function pauseQueue(
  db: Queryable,
  queue: string,
  reason: string | undefined,
): Promise<boolean> {
  return (await callJson(
    db,
    `select to_json(public.pause_queue(p_queue => $1::text, p_reason => $2::text))::text`,
    [queue, reason ?? null],
  )) as boolean;
}

/** True when the queue was paused before. */
export async function resumeQueue(db: Queryable, queue: string): Promise<boolean> {
  return (await callJson(db, `select to_json(public.resume_queue(p_queue => $1::text))::text`, [
    queue,
  ])) as boolean;
}

export interface Explanation {
  readonly job_id: string;
  readonly status: string | null;
  readonly reasons: readonly { readonly code: string; readonly message: string }[];
}

/** Why a job is not running. */
export async function explainJob(db: Queryable, id: string): Promise<Explanation> {
  return (await callJson(db, `select public.explain_job(p_job_id => $1::text::bigint)::text`, [
    id,
  ])) as Explanation;
}

export interface QueueStats {
  readonly queue: string;
  readonly is_paused: boolean;
  readonly pending: number;
  readonly scheduled: number;
  readonly blocked: number;
  readonly processing: number;
  /** How many of those have not begun yet: an estimate, from the workers' last heartbeats. */
  readonly fetched: number;
  readonly completed_last_hour: number;
  readonly failed_last_hour: number;
  readonly retried_last_hour: number;
  readonly dead_letters: number;
  readonly oldest_pending_seconds: number | null;
}

/** Depth and rates of one queue, or of all. */
export async function queueStats(db: Queryable, queue?: string): Promise<QueueStats[]> {
  return (await callJson(
    db,
    `select coalesce(jsonb_agg(to_jsonb(line) order by line.queue), '[]')::text
     from public.queue_stats(p_queue => $1::text) as line`,
    [queue ?? null],
  )) as QueueStats[];
}

export interface QueueHealth {
  readonly status: "ok" | "degraded";
  readonly schema_version: number;
  readonly checked_at: string;
  readonly live_workers: number;
  readonly oldest_pending_seconds: number | null;
  readonly dead_letters: number;
  readonly problems: readonly { readonly code: string; readonly message: string }[];
}

export async function queueHealth(db: Queryable): Promise<QueueHealth> {
  return (await callJson(db, `select public.queue_health()::text`)) as QueueHealth;
}
