import type { TestSql } from "../support/connect.ts";

/**
 * What must hold of every job and its parents when nothing is under way. Plain rules over the facts and the trail of runs, which know
 * nothing of how children are found. Sweeps until nothing is left, and answers what does not hold.
 */
export async function flowFaults(sql: TestSql): Promise<string[]> {
  for (let n = 0; ; n += 1) {
    const [row] = await sql<{ is_more: boolean }[]>`
      select (queue.sweep_children() ->> 'is_more')::boolean as is_more`;
    if (!row?.is_more) break;
    if (n > 10_000) return ["the sweep does not come to an end"];
  }
  const rows = await sql<{ fault: string }[]>`
    with job as materialized (
      select job.id, queue.status_of(job.id)::text as status, coalesce(job.options ->> 'on_parent_failure' = 'run', false) as anyway,
        job.depends_on, last.cause_id,
        exists (
          select from queue.runs as run
          where run.job_id = job.id and run.outcome = 'redriven' and run.to_status = 'pending' and run.from_status = 'cancelled'
        ) as was_forced,
        (select count(*) from queue.runs as run where run.job_id = job.id and run.outcome = 'completed') as completions,
        (select count(*) from queue.ready as token where token.id = job.id)
          + (select count(*) from queue.scheduled as token where token.id = job.id)
          + (select count(*) from queue.waiting as token where token.id = job.id) as places
      from queue.jobs as job
      left join lateral (
        select run.cause_id from queue.runs as run where run.job_id = job.id order by run.lease_id desc limit 1
      ) as last on true
    ),
    pair as materialized (
      select child.id as child_id, parent.id as parent_id, child.status as child, parent.status as parent, child.anyway,
        child.was_forced,
        exists (
          select from queue.dependencies as edge where edge.parent_id = parent.id and edge.child_id = child.id
        ) as has_edge
      from job as child, unnest(child.depends_on) as named (id) join job as parent on parent.id = named.id
    )
    select format('job %s is %s and stands in %s places', job.id, job.status, job.places) as fault from job
    where job.places <> case when job.status in ('completed', 'failed', 'cancelled', 'processing') then 0 else 1 end
    union all
    select format('job %s completed %s times', job.id, job.completions) from job
    where job.completions <> (job.status = 'completed')::integer
    union all
    select format('%s waits for %s parents, and has %s edges', token.id, token.open_parents, edges.n)
    from queue.waiting as token, lateral (
      select count(*) as n from queue.dependencies as edge where edge.child_id = token.id
    ) as edges
    where token.open_parents <> edges.n
    union all
    select format('%s waits for %s, which is %s', pair.child_id, pair.parent_id, pair.parent) from pair
    where pair.child = 'blocked' and pair.has_edge and pair.parent in ('completed', 'failed', 'cancelled')
    union all
    select format('%s is blocked and does not wait for %s, which is %s', pair.child_id, pair.parent_id, pair.parent) from pair
    where pair.child = 'blocked' and not pair.has_edge and not pair.anyway and pair.parent <> 'completed'
    union all
    select format('%s is %s though its parent %s is %s', pair.child_id, pair.child, pair.parent_id, pair.parent) from pair
    where pair.child not in ('blocked', 'cancelled') and not pair.anyway and not pair.was_forced and pair.parent <> 'completed'
    union all
    select format('%s is cancelled because of %s, which never failed and was never cancelled', job.id, job.cause_id) from job
    where job.cause_id is not null and not exists (
      select from queue.runs as run where run.job_id = job.cause_id and run.to_status in ('failed', 'cancelled')
    )
    union all
    select format('%s is cancelled because of %s, which is not its parent', job.id, job.cause_id) from job
    where job.cause_id is not null and (job.anyway or job.cause_id <> all (job.depends_on))
    union all
    select format('lease %s is left', lease.id) from queue.leases as lease`;
  return rows.map(({ fault }) => fault);
}
