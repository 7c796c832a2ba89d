-- The state of the queues in numbers, for machines: what ?action=stats answers. Of what is open everything is counted; of what ended the
-- newest runs of the last hour, 10,000 at most.

create function queue.overview()
returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_since timestamptz := v_now - interval '1 hour';
  v_answer json;
begin
  with token as (
    select 'pending' as status, ready.queue_id, ready.type_id, ready.lane, ready.at from queue.ready as ready
    union all
    select 'scheduled', later.queue_id, later.type_id, later.lane, null from queue.scheduled as later
    union all
    select 'blocked', held.queue_id, held.type_id, held.lane, null from queue.waiting as held
    union all
    select 'processing', job.queue_id, job.type_id, job.tenant_id, null
    from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
    join queue.jobs as job on job.id = held.job_id
    where not exists (select from queue.runs as run where run.job_id = held.job_id and run.lease_id = lease.id)
  ),
  depth as materialized (
    select token.status, token.queue_id, token.type_id, token.lane, count(*) as n, min(token.at) as oldest
    from token group by token.status, token.queue_id, token.type_id, token.lane
  ),
  recent as materialized (
    select job.queue_id, job.type_id, job.tenant_id, run.outcome, run.to_status,
      extract(epoch from run.finished_at - run.started_at)::double precision * 1000 as run_ms,
      case when run.attempt = 1 then greatest(0, extract(epoch from
        run.started_at - greatest(job.created_at, job.scheduled_at))::double precision * 1000) end as wait_ms
    from (
      select last.* from queue.runs as last
      order by last.job_id desc limit 10000
    ) as run
    join queue.jobs as job on job.id = run.job_id
    where run.finished_at > v_since and run.outcome in ('completed', 'failed', 'lost')
  ),
  part as (
    select dimension.name as dimension, case dimension.name
        when 'queues' then depth.queue_id when 'types' then depth.type_id else depth.lane end as id,
      coalesce(sum(depth.n) filter (where depth.status = 'pending'), 0) as pending,
      coalesce(sum(depth.n) filter (where depth.status = 'scheduled'), 0) as scheduled,
      coalesce(sum(depth.n) filter (where depth.status = 'blocked'), 0) as blocked,
      coalesce(sum(depth.n) filter (where depth.status = 'processing'), 0) as processing,
      min(depth.oldest) as oldest, 0::bigint as completed, 0::bigint as failed, 0::bigint as retried
    from depth cross join (values ('queues'), ('types'), ('tenants')) as dimension (name)
    group by 1, 2
    union all
    select dimension.name, case dimension.name
        when 'queues' then recent.queue_id when 'types' then recent.type_id else recent.tenant_id end,
      0, 0, 0, 0, null,
      count(*) filter (where recent.to_status = 'completed'), count(*) filter (where recent.to_status = 'failed'),
      count(*) filter (where recent.to_status in ('scheduled', 'pending'))
    from recent cross join (values ('queues'), ('types'), ('tenants')) as dimension (name)
    group by 1, 2
  ),
  line as (
    select part.dimension, part.id, sum(part.pending) as pending, sum(part.scheduled) as scheduled,
      sum(part.blocked) as blocked, sum(part.processing) as processing, min(part.oldest) as oldest,
      sum(part.completed) as completed, sum(part.failed) as failed, sum(part.retried) as retried
    from part group by part.dimension, part.id
  ),
  ranked as (
    select line.*, row_number() over (
      partition by line.dimension order by line.pending + line.processing desc, line.completed desc, line.id
    ) as position
    from line
  ),
  told as (
    select ranked.dimension, json_agg(json_build_object(
      'name', case ranked.dimension
        when 'queues' then (select known.name from queue.queues as known where known.id = ranked.id)
        when 'types' then (select known.name from queue.types as known where known.id = ranked.id)
        else (select known.name from queue.tenants as known where known.id = ranked.id) end,
      'pending', ranked.pending, 'scheduled', ranked.scheduled, 'blocked', ranked.blocked, 'processing', ranked.processing,
      'completed', ranked.completed, 'failed', ranked.failed, 'retried', ranked.retried,
      'oldest_pending_seconds', round(extract(epoch from v_now - ranked.oldest), 3)
    ) order by ranked.position) as lines
    from ranked where ranked.position <= 50
    group by ranked.dimension
  ),
  latency as (
    select
      percentile_cont(array[0.5, 0.95, 0.99]) within group (order by recent.run_ms) as run,
      percentile_cont(array[0.5, 0.95, 0.99]) within group (order by recent.wait_ms) as wait
    from recent
  )
  select json_build_object(
    'at', v_now,
    'statuses', (
      select json_build_object(
        'pending', coalesce(sum(depth.n) filter (where depth.status = 'pending'), 0),
        'scheduled', coalesce(sum(depth.n) filter (where depth.status = 'scheduled'), 0),
        'blocked', coalesce(sum(depth.n) filter (where depth.status = 'blocked'), 0),
        'processing', coalesce(sum(depth.n) filter (where depth.status = 'processing'), 0),
        'dead_letters', (select count(*) from queue.dead_letters)
      ) from depth
    ),
    'last_hour', (
      select json_build_object(
        'completed', count(*) filter (where recent.to_status = 'completed'),
        'failed', count(*) filter (where recent.to_status = 'failed'),
        'retried', count(*) filter (where recent.to_status in ('scheduled', 'pending')),
        'is_sample', count(*) = 10000
      ) from recent
    ),
    'run_ms', (select json_build_object('p50', latency.run[1], 'p95', latency.run[2], 'p99', latency.run[3]) from latency),
    'wait_ms', (select json_build_object('p50', latency.wait[1], 'p95', latency.wait[2], 'p99', latency.wait[3]) from latency),
    'queues', (select coalesce(json_agg(told.lines), '[[]]') -> 0 from told where told.dimension = 'queues'),
    'types', (select coalesce(json_agg(told.lines), '[[]]') -> 0 from told where told.dimension = 'types'),
    'tenants', (select coalesce(json_agg(told.lines), '[[]]') -> 0 from told where told.dimension = 'tenants')
  ) into v_answer;
  return v_answer;
end;
$$;
comment on function queue.overview is
  'Depth, rates of the last hour and percentiles of run and wait times, in all and for the 50 busiest queues, types and tenants (name null: jobs of no tenant).';
