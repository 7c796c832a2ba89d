import type { TestSql } from "../support/connect.ts";
import type { Acknowledgement, Sighting } from "../support/identity.ts";
import { findStrangers, summarise } from "../support/identity-audit.ts";

/** What became of all jobs: the numbers by which a campaign is judged. */
export interface Audit {
  readonly acknowledged: number;
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly open: number;
  /** Acknowledged and not there. */
  readonly lost: number;
  /** There and never acknowledged. */
  readonly surplus: number;
  /** Jobs with two ends and no redrive between them. */
  readonly settledTwice: number;
  /** Jobs with two rows in the ledger. */
  readonly doubleEffects: number;
  /** Completed jobs whose effect is missing, and effects of jobs that did not complete. */
  readonly wrongEffects: number;
  /** Effects under another job's id. */
  readonly foreignEffects: number;
  /** Failed jobs without a dead letter, and dead letters of jobs that did not fail. */
  readonly wrongDeadLetters: number;
  readonly leasesLeft: number;
  /** Attempts whose lease ran out. */
  readonly rescues: number;
  /** What stands under a job it does not belong to. */
  readonly strangers: readonly string[];
}

export async function audit(
  sql: TestSql,
  acknowledged: readonly Acknowledgement[],
  sightings: readonly Sighting[],
): Promise<Audit> {
  const ids = acknowledged.map(({ id }) => id);
  const [row] = await sql<{ audit: Omit<Audit, "acknowledged" | "strangers"> }[]>`
    with job as materialized (
      select job.id, job.type, job.status, job.payload from public.job_queue as job
    ),
    acknowledged as materialized (
      select distinct given.id from unnest(${ids}::text[]::bigint[]) as given (id)
    ),
    step as (
      select run.job_id, run.outcome, run.to_status, lag(run.to_status) over trail as before
      from queue.runs as run
      window trail as (partition by run.job_id order by run.lease_id)
    )
    select json_build_object(
      'completed', (select count(*) from job where job.status = 'completed'),
      'failed', (select count(*) from job where job.status = 'failed'),
      'cancelled', (select count(*) from job where job.status = 'cancelled'),
      'open', (select count(*) from job where job.status not in ('completed', 'failed', 'cancelled')),
      'lost', (select count(*) from acknowledged left join job using (id) where job.id is null),
      'surplus', (select count(*) from job left join acknowledged using (id) where acknowledged.id is null),
      'settledTwice', (
        select count(distinct step.job_id) from step
        where step.before in ('completed', 'failed', 'cancelled') and step.outcome <> 'redriven'),
      'doubleEffects', (
        select count(*) from (select from public.ledger group by job_id having count(*) > 1) as double),
      'wrongEffects', (
        select count(*) from job left join (select distinct job_id from public.ledger) as effect on effect.job_id = job.id
        where (effect.job_id is not null)
          <> (job.status = 'completed' and job.type <> 'crash.bulk' and (job.payload ->> 'hasEffect')::boolean)),
      'foreignEffects', (
        select count(*) from public.ledger join job on job.id = ledger.job_id where ledger.nonce <> job.payload #>> '{who,nonce}'),
      'wrongDeadLetters', (
        select count(*) from job full join public.job_dead_letter as dead on dead.id = job.id
        where (dead.id is not null) <> (job.status = 'failed')),
      'leasesLeft', (select count(*) from queue.leases),
      'rescues', (select count(*) from step where step.outcome = 'lost')
    ) as audit`;
  if (!row) throw new Error("the audit returned nothing");
  const strangers = summarise(await findStrangers(sql, acknowledged, sightings));
  return { acknowledged: new Set(ids).size, ...row.audit, strangers };
}

/** What is wrong, in words; empty when all is well. */
export function faults(audit: Audit): string[] {
  const { acknowledged, completed, failed, cancelled, open } = audit;
  const sum = completed + failed + cancelled + open;
  const wrong = {
    "jobs lost": audit.lost,
    "jobs nobody enqueued": audit.surplus,
    "jobs settled twice": audit.settledTwice,
    "effects twice": audit.doubleEffects,
    "effects without their completion or the other way round": audit.wrongEffects,
    "effects of another job": audit.foreignEffects,
    "dead letters without their failure or the other way round": audit.wrongDeadLetters,
    "jobs still open": open,
    "leases still held": audit.leasesLeft,
    "jobs unaccounted for": acknowledged - sum,
  };
  const counted = Object.entries(wrong)
    .filter(([, count]) => count !== 0)
    .map(([what, count]) => `${count} ${what}`);
  return [...counted, ...audit.strangers];
}
