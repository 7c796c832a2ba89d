import { callJson, textArray } from "./call.ts";
import type { Queryable } from "./sql.ts";

/** A point in the life of the database, to tell what happened since. */
export interface StartMark {
  /** Jobs made later have larger ids. */
  readonly lastId: string;
  /** ISO 8601, by the queue's clock. */
  readonly at: string;
}

export async function markStart(db: Queryable): Promise<StartMark> {
  return (await callJson(
    db,
    `select json_build_object('lastId', coalesce(max(job.id), 0)::text, 'at', queue.clock())::text
     from queue.jobs as job`,
  )) as StartMark;
}

/** How a job of a run ended; or `open`, when it has not. */
export type Ending =
  | "first_attempt"
  | "when_due"
  | "after_others"
  | "after_snooze"
  | "after_retries"
  | "failed"
  | "cancelled_waiting"
  | "cancelled_running"
  | "open";

export interface EndingCount {
  readonly ending: Ending;
  readonly type: string;
  readonly jobs: number;
  /** One of them, and what it said last. */
  readonly id: string;
  readonly last_error: string | null;
}

/**
 * How the jobs of these types ended that were made, or that something happened to, since the mark. Each job is counted once, by
 * what is most remarkable of it.
 */
export async function endingsSince(
  db: Queryable,
  mark: StartMark,
  types: readonly string[],
): Promise<EndingCount[]> {
  return (await callJson(
    db,
    `with touched as (
       select job.id from queue.jobs as job where job.id > $1::text::bigint
       union
       select run.job_id from queue.runs as run where run.finished_at >= $2::text::timestamptz
     ),
     past as (
       select run.job_id, count(*) filter (where run.outcome in ('failed', 'lost')) as failures,
         count(*) filter (where run.outcome = 'snoozed') as snoozes,
         bool_or(run.outcome = 'cancelled' and run.from_status is null) as was_running,
         (array_agg(run.to_status order by run.lease_id desc))[1] as status,
         (array_agg(coalesce(run.error ->> 'message', run.reason) order by run.lease_id desc))[1] as last_error
       from touched join queue.runs as run on run.job_id = touched.id
       group by run.job_id
     ),
     token as (
       select ready.id from queue.ready union all select scheduled.id from queue.scheduled
       union all select waiting.id from queue.waiting
     ),
     fact as (
       select job.id, job.born, type.name as type, past.was_running, past.last_error,
         case when token.id is null then past.status end as status,
         coalesce(past.failures, 0) as failures, coalesce(past.snoozes, 0) as snoozes
       from touched
       join queue.jobs as job on job.id = touched.id
       join queue.types as type on type.id = job.type_id
       left join past on past.job_id = touched.id
       left join token on token.id = touched.id
       where type.name = any ($3::text::text[])
     ),
     verdict as (
       select fact.*, case
         when fact.status = 'failed' then 'failed'
         when fact.status = 'cancelled' and fact.was_running then 'cancelled_running'
         when fact.status = 'cancelled' then 'cancelled_waiting'
         when fact.status is distinct from 'completed' then 'open'
         when fact.failures > 0 then 'after_retries'
         when fact.snoozes > 0 then 'after_snooze'
         when fact.born = 'blocked' then 'after_others'
         when fact.born = 'scheduled' then 'when_due'
         else 'first_attempt' end as ending
       from fact
     )
     select coalesce(json_agg(line order by line.type), '[]')::text from (
       select verdict.ending, verdict.type, count(*) as jobs, max(verdict.id)::text as id,
         (array_agg(verdict.last_error order by verdict.id desc))[1] as last_error
       from verdict group by verdict.ending, verdict.type
     ) as line`,
    [mark.lastId, mark.at, textArray(types)],
  )) as EndingCount[];
}

export interface SampleJob {
  readonly type: string;
  readonly payload: unknown;
}

/** A job of one of these types, made since the mark and with a small payload: something to try. */
export async function sampleJob(
  db: Queryable,
  mark: StartMark,
  types: readonly string[],
): Promise<SampleJob | null> {
  return (await callJson(
    db,
    `select json_build_object('type', type.name, 'payload', job.payload)::text
     from queue.jobs as job join queue.types as type on type.id = job.type_id
     where job.id > $1::text::bigint and type.name = any ($2::text::text[]) and length(job.payload::text) <= 60
     order by array_position($2::text::text[], type.name), job.id desc limit 1`,
    [mark.lastId, textArray(types)],
  )) as SampleJob | null;
}

/** How many jobs of these types are not processing and have not ended. */
export async function backlogOf(db: Queryable, types: readonly string[]): Promise<number> {
  return (await callJson(
    db,
    `select to_json(count(*))::text
     from (
       select token.type_id from queue.ready as token
       union all select token.type_id from queue.scheduled as token
       union all select token.type_id from queue.waiting as token
     ) as waiting
     join queue.types as type on type.id = waiting.type_id
     where type.name = any ($1::text::text[])`,
    [textArray(types)],
  )) as number;
}
