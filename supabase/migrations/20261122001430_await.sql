-- What those ask who wait: a worker that stops when nothing is left to do, and whoever wants the result of a job. Changes nothing, locks
-- nothing.

create function queue.open_jobs(
  p_queue_ids integer[], p_except_queue_ids integer[], p_type_ids integer[], p_tenant_id integer default null
)
returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_lines integer[] := queue.lines(p_queue_ids, p_except_queue_ids, p_type_ids);
begin
  return json_build_object(
    'pending', exists (
      select from queue.ready as token
      where token.queue_id = any (v_lines) and (p_type_ids is null or token.type_id = any (p_type_ids))
        and (p_tenant_id is null or p_tenant_id = (select job.tenant_id from queue.jobs as job where job.id = token.id))),
    'scheduled', exists (
      select from queue.scheduled as token
      where token.queue_id = any (v_lines) and (p_type_ids is null or token.type_id = any (p_type_ids))
        and (p_tenant_id is null or p_tenant_id = (select job.tenant_id from queue.jobs as job where job.id = token.id))),
    'blocked', exists (
      select from queue.arrivals as arrival where p_type_ids is null or arrival.type in (
        select type.name from queue.types as type where type.id = any (p_type_ids))
    ) or exists (
      select from queue.waiting as token
      where token.queue_id = any (v_lines) and (p_type_ids is null or token.type_id = any (p_type_ids))
        and (p_tenant_id is null or p_tenant_id = (select job.tenant_id from queue.jobs as job where job.id = token.id))),
    'processing', exists (
      select from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
      join queue.jobs as job on job.id = held.job_id
      where job.queue_id = any (v_lines) and (p_type_ids is null or job.type_id = any (p_type_ids))
        and (p_tenant_id is null or job.tenant_id = p_tenant_id)),
    'next_due_in_ms', (
      select greatest(0, ceil(extract(epoch from token.at - queue.clock()) * 1000))
      from queue.scheduled as token
      where token.queue_id = any (v_lines) and (p_type_ids is null or token.type_id = any (p_type_ids))
        and (p_tenant_id is null or p_tenant_id = (select job.tenant_id from queue.jobs as job where job.id = token.id))
      order by token.at limit 1)
  );
end;
$$;
comment on function queue.open_jobs is 'Whether jobs of these queues, types and tenant are pending, scheduled, blocked or processing, and when the next is due.';

create function queue.job_outcome(p_job_id bigint)
returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
  select json_build_object(
    'status', queue.status_of(job.id), 'result', last.result, 'attempts', coalesce(last.attempt, 0),
    'error', coalesce(last.error, case when last.reason is not null then json_build_object('message', last.reason)::jsonb end)
  )
  from (
    select known.id, null as reason from queue.jobs as known where known.id = p_job_id
    union all
    select arrival.id, arrival.cancel_reason from queue.arrivals as arrival where arrival.id = p_job_id
  ) as job
  left join lateral (
    select run.result, run.error, coalesce(run.reason, job.reason) as reason, run.attempt from queue.runs as run
    where run.job_id = job.id order by run.lease_id desc limit 1
  ) as last on true;
$$;
comment on function queue.job_outcome is 'Status, result and last error of a job, for whoever waits for it; null for an unknown job.';
