import { parseExact } from "../core/exact-json.ts";
import { callJson, callText, numberArray } from "./call.ts";
import { inexactResult } from "./claimed-jobs.ts";
import { idsFrom } from "./id-runs.ts";
import type { Queryable } from "./sql.ts";

/** A job to be made, in the words of the database. What is left out gets the database's default. */
export interface NewJob {
  readonly type: string;
  /** JSON text. */
  readonly payload: string;
  readonly priority?: string | undefined;
  /** An absolute time, ISO 8601. */
  readonly scheduledAt?: string | undefined;
  /** Time from now on by the database's clock; not together with `scheduledAt`. */
  readonly delayMs?: number | undefined;
  readonly tenantId?: string | undefined;
  readonly queue?: string | undefined;
  readonly maxRetries?: number | undefined;
  readonly dependsOn?: readonly string[] | undefined;
  readonly idempotencyKey?: string | undefined;
  readonly options?: Readonly<Record<string, unknown>> | undefined;
  /** A name that other jobs of the same call can depend on. */
  readonly ref?: string | undefined;
  readonly dependsOnRefs?: readonly string[] | undefined;
}

export interface MadeJob {
  readonly id: string;
  /** `existing`: a job with this idempotency key was there already, and is this one. */
  readonly outcome: "created" | "existing";
}

/** A time ($4), or a delay ($5) by the database's clock, which is not asked without need. */
const SCHEDULED_AT = `coalesce($4::text::timestamptz, case when $5::text is not null
         then queue.clock() + $5::text::double precision * interval '1 millisecond' end)`;

export async function enqueueOne(db: Queryable, job: NewJob): Promise<MadeJob> {
  return (await callJson(
    db,
    `select json_build_object('id', made.id::text, 'outcome', made.outcome)::text
     from queue.enqueue_one(p_type => $1::text, p_payload => $2::text::jsonb,
       p_priority => coalesce($3::text, 'normal'),
       p_scheduled_at => ${SCHEDULED_AT},
       p_tenant_id => $6::text, p_queue => $7::text, p_max_retries => $8::text::integer,
       p_depends_on => $9::text::bigint[], p_idempotency_key => $10::text,
       p_options => $11::text::jsonb) as made`,
    [
      job.type,
      job.payload,
      job.priority ?? null,
      job.scheduledAt ?? null,
      job.delayMs === undefined ? null : String(job.delayMs),
      job.tenantId ?? null,
      job.queue ?? null,
      job.maxRetries === undefined ? null : String(job.maxRetries),
      numberArray(job.dependsOn ?? null),
      job.idempotencyKey ?? null,
      job.options ? JSON.stringify(job.options) : null,
    ],
  )) as MadeJob;
}

/** Makes many jobs in one statement; the answers are in the order of the jobs. */
export async function enqueueMany(db: Queryable, jobs: readonly NewJob[]): Promise<MadeJob[]> {
  const [first] = jobs;
  if (first && areAlike(first, jobs)) return enqueueAlike(db, first, jobs);
  const source = jobs.some((job) => job.delayMs !== undefined)
    ? RESOLVE_DELAYS
    : "select $1::text::jsonb as jobs";
  return (await callJson(
    db,
    `select coalesce(json_agg(json_build_object('id', made.id::text, 'outcome', made.outcome)
       order by made.ordinal), '[]')::text
     from (${source}) as given, queue.enqueue_many(p_jobs => given.jobs) as made`,
    [`[${jobs.map(encodeJob).join(",")}]`],
  )) as MadeJob[];
}

/** Whether the jobs differ in their payloads only, and nothing is told of single ones. */
function areAlike(first: NewJob, jobs: readonly NewJob[]): boolean {
  const options = JSON.stringify(first.options);
  return jobs.every(
    (job) =>
      job.idempotencyKey === undefined &&
      job.dependsOn === undefined &&
      job.ref === undefined &&
      job.dependsOnRefs === undefined &&
      job.type === first.type &&
      job.priority === first.priority &&
      job.scheduledAt === first.scheduledAt &&
      job.delayMs === first.delayMs &&
      job.tenantId === first.tenantId &&
      job.queue === first.queue &&
      job.maxRetries === first.maxRetries &&
      (job.options === first.options || JSON.stringify(job.options) === options),
  );
}

async function enqueueAlike(
  db: Queryable,
  job: NewJob,
  jobs: readonly NewJob[],
): Promise<MadeJob[]> {
  const made = await callText(
    db,
    `select case when made.ids[cardinality(made.ids)] - made.ids[1] + 1 = cardinality(made.ids)
         then made.ids[1]::text else made.ids::text end
     from (select queue.enqueue_alike(p_type => $1::text, p_payloads => $2::text::jsonb,
       p_priority => coalesce($3::text, 'normal'),
       p_scheduled_at => ${SCHEDULED_AT},
       p_tenant_id => $6::text, p_queue => $7::text, p_max_retries => $8::text::integer,
       p_options => $9::text::jsonb) as ids) as made`,
    [
      job.type,
      `[${jobs.map(({ payload }) => payload).join(",")}]`,
      job.priority ?? null,
      job.scheduledAt ?? null,
      job.delayMs === undefined ? null : String(job.delayMs),
      job.tenantId ?? null,
      job.queue ?? null,
      job.maxRetries === undefined ? null : String(job.maxRetries),
      job.options ? JSON.stringify(job.options) : null,
    ],
  );
  // All of the ids as Postgres writes an array, or where they follow on each other the first.
  const ids = made?.startsWith("{")
    ? made.slice(1, -1).split(",")
    : idsFrom(made ?? "", jobs.length);
  return ids.map((id) => ({ id, outcome: "created" }));
}

/** Turns delays into times by the database's clock: the caller's may be wrong. */
const RESOLVE_DELAYS = `
  select jsonb_agg(case when item.job ? 'delay_ms'
    then item.job - 'delay_ms' || jsonb_build_object('scheduled_at',
      queue.clock() + (item.job ->> 'delay_ms')::double precision * interval '1 millisecond')
    else item.job end order by item.position) as jobs
  from jsonb_array_elements($1::text::jsonb) with ordinality as item (job, position)`;

/** Put together by hand, because the payload is JSON text already. */
function encodeJob(job: NewJob): string {
  const rest = JSON.stringify({
    type: job.type,
    priority: job.priority,
    scheduled_at: job.scheduledAt,
    delay_ms: job.delayMs,
    tenant_id: job.tenantId,
    queue: job.queue,
    max_retries: job.maxRetries,
    depends_on: job.dependsOn,
    idempotency_key: job.idempotencyKey,
    options: job.options,
    ref: job.ref,
    depends_on_refs: job.dependsOnRefs,
  });
  return `${rest.slice(0, -1)},"payload":${job.payload}}`;
}

export interface JobOutcome {
  readonly status: string;
  readonly result: unknown;
  readonly error: { readonly name?: string; readonly message: string } | null;
  readonly attempts: number;
}

/** Where a job stands, and its result or last error; null for an unknown job. */
export async function jobOutcome(
  db: Queryable,
  id: string,
  signal?: AbortSignal,
): Promise<JobOutcome | null> {
  const text = await callText(
    db,
    `select queue.job_outcome(p_job_id => $1::text::bigint)::text`,
    [id],
    {
      signal,
    },
  );
  return text ? (parseExact(text, inexactResult) as JobOutcome | null) : null;
}
