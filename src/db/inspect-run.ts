import { callJson, textArray } from "./call.ts";
import type { Queryable, Sql } from "./sql.ts";

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
  sql: Sql,
  mark: StartMark,
  types: readonly string[],
): Promise<EndingCount[]> {
  return sql.transaction(async (tx) => {
    // The planner knows nothing of rows this young, and a nested loop over a hundred thousand of them takes hours.
    await tx.query("set local enable_nestloop = off");
    return (await callJson(tx, ENDINGS, [mark.lastId, mark.at, textArray(types)])) as EndingCount[];
  });
}

/** The newest run of a job tells whether it ended; what has no run since the mark has not. */
const ENDINGS = `
  with recent as materialized (
    select run.job_id, count(*) filter (where run.outcome in ('failed', 'lost')) as failures,
      count(*) filter (where run.outcome = 'snoozed') as snoozes,
      bool_or(run.outcome = 'cancelled' and run.from_status is null) as was_running,
      (array_agg(run.to_status order by run.lease_id desc))[1] as status,
      (array_agg(coalesce(run.error ->> 'message', run.reason) order by run.lease_id desc))[1] as last_error
    from queue.runs as run where run.finished_at >= $2::text::timestamptz
    group by run.job_id
  ),
  touched as (
    select job.id, job.born, job.type_id, recent.*
    from queue.jobs as job left join recent on recent.job_id = job.id
    where job.id > $1::text::bigint
    union all
    select older.id, older.born, older.type_id, recent.*
    from recent cross join lateral (
      select job.* from queue.jobs as job where job.id = recent.job_id limit 1
    ) as older
    where recent.job_id <= $1::text::bigint
  ),
  verdict as (
    select touched.id, touched.last_error, type.name as type, case
      when touched.status = 'failed' then 'failed'
      when touched.status = 'cancelled' and touched.was_running then 'cancelled_running'
      when touched.status = 'cancelled' then 'cancelled_waiting'
      when touched.status is distinct from 'completed' then 'open'
      when touched.failures > 0 then 'after_retries'
      when touched.snoozes > 0 then 'after_snooze'
      when touched.born = 'blocked' then 'after_others'
      when touched.born = 'scheduled' then 'when_due'
      else 'first_attempt' end as ending
    from touched join queue.types as type on type.id = touched.type_id
    where type.name = any ($3::text::text[])
  )
  select coalesce(json_agg(line order by line.type), '[]')::text from (
    select verdict.ending, verdict.type, count(*) as jobs, max(verdict.id)::text as id,
      (array_agg(verdict.last_error order by verdict.id desc))[1] as last_error
    from verdict group by verdict.ending, verdict.type
  ) as line`;

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
