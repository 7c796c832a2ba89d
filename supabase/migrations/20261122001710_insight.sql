-- Answers to what people ask: how deep are the queues, is the system well? Changes nothing, locks nothing.

-- From one lane to the next: what is read does not grow with the jobs that are pending, only with the tenants that have some.
create function queue.oldest_pending()
returns table (queue_id integer, at timestamptz)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query
  with recursive lane as (
    (
      select token.queue_id, token.priority, token.lane, token.at from queue.ready as token
      order by token.queue_id, token.priority, token.lane, token.at, token.id limit 1
    )
    union all
    select next.* from lane
    cross join lateral (
      select token.queue_id, token.priority, token.lane, token.at from queue.ready as token
      where (token.queue_id, token.priority, token.lane) > (lane.queue_id, lane.priority, lane.lane)
      order by token.queue_id, token.priority, token.lane, token.at, token.id limit 1
    ) as next
  )
  select lane.queue_id, min(lane.at) from lane group by lane.queue_id;
end;
$$;
comment on function queue.oldest_pending is 'Since when the oldest pending job of each queue has waited.';

-- Each table is read once, and of tables of tokens and dead letters only an index. Where one queue is asked for, only what is its own.
create function queue.stats(p_queue text)
returns table (
  queue text, is_paused boolean, pending bigint, scheduled bigint, blocked bigint, processing bigint, fetched bigint,
  completed_last_hour bigint, failed_last_hour bigint, retried_last_hour bigint, dead_letters bigint,
  oldest_pending_seconds double precision
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_now timestamptz := queue.clock();
  v_one integer := (select known.id from queue.queues as known where known.name = p_queue);
begin
  return query
  with line as (
    select known.id, known.name, known.is_paused from queue.queues as known where p_queue is null or known.id = v_one
  ),
  ready as (
    select token.queue_id, count(*) as n from queue.ready as token
    where v_one is null or token.queue_id = v_one group by token.queue_id
  ),
  later as (
    select token.queue_id, count(*) as n from queue.scheduled as token
    where v_one is null or token.queue_id = v_one group by token.queue_id
  ),
  held as (
    select token.queue_id, count(*) as n from queue.waiting as token
    where v_one is null or token.queue_id = v_one group by token.queue_id
  ),
  dead as (
    select letter.queue_id, count(*) as n from queue.dead_letters as letter
    where v_one is null or letter.queue_id = v_one group by letter.queue_id
  ),
  running as (
    select job.queue_id, count(*) as n
    from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
    join queue.jobs as job on job.id = held.job_id
    where not exists (select from queue.runs as run where run.job_id = held.job_id and run.lease_id = lease.id)
    group by job.queue_id
  ),
  recent as (
    select job.queue_id,
      count(*) filter (where run.outcome = 'completed') as completed,
      count(*) filter (where run.to_status = 'failed') as failed,
      count(*) filter (where run.outcome in ('failed', 'lost') and run.to_status <> 'failed') as retried
    from queue.runs as run join queue.jobs as job on job.id = run.job_id
    where run.finished_at > v_now - interval '1 hour'
    group by job.queue_id
  )
  select line.name, line.is_paused, coalesce(ready.n, 0), coalesce(later.n, 0), coalesce(held.n, 0),
    coalesce(running.n, 0), least(coalesce(told.jobs, 0), coalesce(running.n, 0)),
    coalesce(recent.completed, 0), coalesce(recent.failed, 0), coalesce(recent.retried, 0), coalesce(dead.n, 0),
    case when oldest.at is not null then greatest(0, extract(epoch from v_now - oldest.at))::double precision end
  from line
  left join ready on ready.queue_id = line.id
  left join later on later.queue_id = line.id
  left join held on held.queue_id = line.id
  left join dead on dead.queue_id = line.id
  left join running on running.queue_id = line.id
  left join queue.fetched() as told on told.queue = line.name
  left join recent on recent.queue_id = line.id
  left join queue.oldest_pending() as oldest on oldest.queue_id = line.id
  order by line.name;
end;
$$;
comment on function queue.stats is
  'Depth, rates of the last hour and age of the oldest pending job, for each queue. fetched: how many of the jobs in processing have not begun yet, by the workers'' last heartbeats.';

create function queue.health()
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := queue.clock();
  v_timeout interval := (select settings.worker_timeout from queue.settings);
  v_workers bigint;
  v_oldest double precision;
  v_expired bigint;
  v_dead bigint;
  v_paused bigint;
  v_snapshot_age double precision;
  v_arrivals record;
  v_notify_usage double precision := pg_notification_queue_usage();
  v_problems jsonb := jsonb '[]';
begin
  select count(*) into v_workers from queue.workers as worker
  where worker.is_registered and worker.seen_at > v_now - v_timeout;
  select case when min(oldest.at) is not null then greatest(0, extract(epoch from v_now - min(oldest.at))) end into v_oldest
  from queue.oldest_pending() as oldest join queue.queues as line on line.id = oldest.queue_id where not line.is_paused;
  select count(*) into v_expired from queue.leases as lease where lease.expires_at < v_now - interval '1 minute';
  select count(*) into v_dead from queue.dead_letters;
  select count(*) into v_paused from queue.queues as line where line.is_paused;
  select extract(epoch from v_now - min(session.xact_start)) into v_snapshot_age
  from pg_catalog.pg_stat_activity as session
  -- Snapshots of other databases don't keep dead rows of this one.
  where session.backend_xmin is not null and session.datname = current_database();

  -- An Edge worker lives only while it works; it comes with the next tick at the latest.
  if v_workers = 0 and (v_oldest > 90 or (v_oldest is not null and not exists (select from queue.rings))) then
    v_problems := v_problems || jsonb_build_object('code', 'no_live_worker', 'message', 'Jobs are pending and no worker is alive.');
  end if;
  if v_oldest > 300 then
    v_problems := v_problems || jsonb_build_object('code', 'backlog', 'message', format(
      'The oldest pending job has waited for %s s.', round(v_oldest)));
  end if;
  if v_expired > 0 then
    v_problems := v_problems || jsonb_build_object('code', 'stuck_leases', 'message', format(
      '%s leases ran out over a minute ago: nobody calls cleanup_stuck_jobs().', v_expired));
  end if;
  if v_snapshot_age > 600 then
    v_problems := v_problems || jsonb_build_object('code', 'old_snapshot', 'message', format(
      'A transaction has been open for %s s: dead rows can''t be vacuumed.', round(v_snapshot_age)));
  end if;
  select count(*) as n, min(arrival.type) as type into v_arrivals
  from queue.arrivals as arrival where arrival.created_at < v_now - interval '1 minute' and arrival.cancelled_at is null;
  if v_arrivals.n > 0 then
    v_problems := v_problems || jsonb_build_object('code', 'names_held', 'message', format(
      '%s job%s for a transaction that is making a type, queue or tenant and has been open for over a minute; one is of type %s.',
      v_arrivals.n, case when v_arrivals.n = 1 then ' waits' else 's wait' end, v_arrivals.type));
  end if;
  if v_notify_usage > 0.5 then
    v_problems := v_problems || jsonb_build_object('code', 'notify_queue_full', 'message', format(
      'The notification queue of the server is %s %% full: some session listens and stays in a transaction. Workers are not woken until it is below half; they find jobs by looking.',
      round((v_notify_usage * 100)::numeric)));
  end if;
  v_problems := v_problems || queue.server_problems(v_now) || queue.maintenance_problems() || queue.worker_problems(v_now)
    || queue.doorbell_problems();
  return jsonb_build_object(
    'status', case when v_problems = '[]' then 'ok' else 'degraded' end,
    'schema_version', queue.schema_version(), 'checked_at', v_now, 'live_workers', v_workers,
    'oldest_pending_seconds', v_oldest, 'dead_letters', v_dead, 'paused_queues', v_paused, 'problems', v_problems
  );
end;
$$;
comment on function queue.health is 'Whether the system is well: status ok or degraded, with each problem as a code and a sentence.';
