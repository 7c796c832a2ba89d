import type { TestSql } from "./connect.ts";
import type { Acknowledgement, Sighting } from "./identity.ts";

/** Something that stands under a job it does not belong to. */
export interface Stranger {
  /** What it is, the same words for the same kind. */
  readonly what: string;
  readonly id: string;
  readonly detail: string;
}

/** More are not told one by one. */
const MOST_TOLD = 200;

/**
 * Compares all that is stored under each job's id with the job's own payload, and with what producers were told and handlers saw:
 * id, type, tenant, payload, lease, attempt and worker of a job belong together in its facts, history, results, errors, notes, progress
 * and dead letter. Reads only. What handlers saw of jobs that are not there any more is left out.
 */
export async function findStrangers(
  sql: TestSql,
  told: readonly Acknowledgement[],
  sightings: readonly Sighting[],
): Promise<Stranger[]> {
  const column = <Row, Value>(rows: readonly Row[], read: (row: Row) => Value): Value[] =>
    rows.map(read);
  return sql.begin(async (tx) => {
    await tx`
      create temporary table own on commit drop as
      select job.id, job.payload #>> '{who,nonce}' as nonce, job.payload #>> '{who,type}' as type,
        job.payload #>> '{who,tenant}' as tenant, job.payload, type.name as stored_type, tenant.name as stored_tenant
      from queue.jobs as job join queue.types as type on type.id = job.type_id
      left join queue.tenants as tenant on tenant.id = job.tenant_id`;
    await tx`
      create temporary table told on commit drop as
      select * from unnest(${column(told, ({ id }) => id)}::text[]::bigint[], ${column(told, ({ nonce }) => nonce)}::text[])
        as told (id, nonce)`;
    await tx`
      create temporary table seen on commit drop as
      select * from unnest(
        ${column(sightings, (seen) => seen.id)}::text[]::bigint[], ${column(sightings, (seen) => seen.nonce)}::text[],
        ${column(sightings, (seen) => seen.lease)}::text[]::bigint[], ${column(sightings, (seen) => seen.attempt)}::integer[],
        ${column(sightings, (seen) => seen.worker)}::text[], ${column(sightings, (seen) => seen.wrong ?? null)}::text[]
      ) as seen (id, nonce, lease, attempt, worker, wrong)`;
    await tx`create index on own (nonce)`;
    await tx`analyze own, told, seen`;
    return tx<Stranger[]>`
      with run as not materialized (
        select run.job_id, run.lease_id::text as lease, run.attempt, run.outcome, run.result, run.error, run.note,
          worker.name as worker, own.nonce
        from queue.runs as run join own on own.id = run.job_id left join queue.workers as worker on worker.id = run.worker_id
      ),
      -- Signatures that attempts left, beside the row that they were found in.
      signed as not materialized (
        select 'result' as place, run.*, run.result as signature from run where run.result ? 'nonce'
        union all
        select 'note', run.*, run.note from run where run.note ? 'nonce'
      )
      select stranger.what, stranger.id::text, left(stranger.detail, 500) as detail from (
        select 'an id told for another payload' as what, told.id, format('told for %s, which is job %s', told.nonce, own.id) as detail
        from told join own using (nonce) where own.id <> told.id
        union all
        select 'two jobs with one payload', min(own.id), format('%s: %s', own.nonce, array_agg(own.id))
        from own group by own.nonce having count(*) > 1
        union all
        select 'facts of another job', own.id, format('%s of %s stored as %s of %s', own.type, own.tenant, own.stored_type, own.stored_tenant)
        from own where own.type <> own.stored_type or own.tenant is distinct from own.stored_tenant
        union all
        select 'a handler that contradicts itself', seen.id, format('%s: %s', seen.nonce, seen.wrong) from seen where seen.wrong is not null
        union all
        select 'a handler under another id', seen.id, format('%s ran under %s, lease %s', seen.nonce, seen.id, seen.lease)
        from seen join own using (nonce) where own.id <> seen.id
        union all
        select 'history of another attempt', seen.id,
          format('lease %s: attempt %s of %s, recorded as %s of %s', seen.lease, seen.attempt, seen.worker, run.attempt, run.worker)
        from seen join own using (nonce) join run on run.job_id = seen.id and run.lease = seen.lease::text
        where own.id = seen.id and (run.attempt <> seen.attempt or run.worker <> seen.worker)
        union all
        select 'a ' || signed.place || ' of another attempt', signed.job_id,
          format('%s, lease %s, attempt %s of %s, under %s, lease %s, attempt %s of %s', signed.signature ->> 'nonce', signed.signature ->> 'lease',
            signed.signature ->> 'attempt', signed.signature ->> 'worker', signed.nonce, signed.lease, signed.attempt, signed.worker)
        from signed
        -- Who is called over HTTP knows neither lease nor worker.
        where signed.signature ->> 'nonce' <> signed.nonce or signed.signature ->> 'attempt' <> signed.attempt::text
          or signed.signature ->> 'lease' <> signed.lease or signed.signature ->> 'worker' <> signed.worker
        union all
        select 'an error of another attempt', run.job_id, format('%s, under %s, lease %s', run.error ->> 'message', run.nonce, run.lease)
        from run where run.error ->> 'message' like 'planned failure of %'
          and run.error ->> 'message' <> format('planned failure of %s under %s', run.nonce, run.lease)
        union all
        select 'progress of another job', own.id, format('%s, under %s', news.data ->> 'nonce', own.nonce)
        from queue.progress as news join own on own.id = news.job_id where news.data ->> 'nonce' <> own.nonce
        union all
        select 'a dead letter of another job', own.id, format('%s, under %s', dead.payload #>> '{who,nonce}', own.nonce)
        from queue.dead_letters as dead join own on own.id = dead.job_id
        join queue.types as type on type.id = dead.type_id left join queue.tenants as tenant on tenant.id = dead.tenant_id
        where dead.payload <> own.payload or type.name <> own.type or tenant.name is distinct from own.tenant
          or exists (
            select from jsonb_array_elements(dead.errors) as error
            where error ->> 'message' like 'planned failure of %' and error ->> 'message' not like format('planned failure of %s under %%', own.nonce)
          )
      ) as stranger
      order by stranger.what, stranger.id
      limit ${MOST_TOLD}`;
  }) as Promise<Stranger[]>;
}

/** `12 × a handler under another id (job 1: …)`, a line for each kind. */
export function summarise(strangers: readonly Stranger[]): string[] {
  const isCut = strangers.length === MOST_TOLD;
  return [...new Set(strangers.map(({ what }) => what))].map((what) => {
    const found = strangers.filter((stranger) => stranger.what === what);
    const count = isCut ? `${found.length} or more` : found.length;
    return `${count} × ${what} (job ${found[0]?.id}: ${found[0]?.detail})`;
  });
}
