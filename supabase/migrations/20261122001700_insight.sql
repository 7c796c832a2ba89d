-- Answers to what people ask: why is this job not running, how deep are the queues, is the system well?

create function queue.explain(p_job_id bigint)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_status queue.job_status := queue.status_of(p_job_id);
  v_job record;
  v_lease record;
  v_last record;
  v_reasons jsonb := jsonb '[]';
  v_timeout interval := (select settings.worker_timeout from queue.settings);
  v_ahead bigint;
  v_holder integer;
  v_arrival jsonb;
begin
  if v_status is null then
    return jsonb_build_object('job_id', p_job_id::text, 'status', null, 'reasons', jsonb_build_array(
      jsonb_build_object('code', 'unknown', 'message', 'No job has this id, or it was removed after its retention.')));
  end if;
  select case when arrival.cancelled_at is not null then jsonb_build_object(
      'code', 'finished', 'at', arrival.cancelled_at, 'message', 'It was cancelled' || coalesce(': ' || left(arrival.cancel_reason, 300), '') || '.')
    else jsonb_build_object(
      'code', 'name_held', 'message', format(
        'A transaction that is still open is making its type %s, its queue %s%s, or something it depends on: it comes when that has ended.',
        arrival.type, arrival.queue, coalesce(' or its tenant ' || arrival.tenant_id, ''))) end
  into v_arrival
  from queue.arrivals as arrival where arrival.id = p_job_id;
  if found then
    return jsonb_build_object('job_id', p_job_id::text, 'status', v_status, 'reasons', jsonb_build_array(v_arrival));
  end if;
  select job.*, type.name as type_name, line.name as queue_name, line.is_paused, line.paused_reason, line.paused_at
  into v_job
  from queue.jobs as job
  join queue.types as type on type.id = job.type_id
  join queue.queues as line on line.id = job.queue_id
  where job.id = p_job_id;
  select run.* into v_last from queue.runs as run
  where run.job_id = p_job_id order by run.lease_id desc limit 1;

  if v_status in ('completed', 'failed', 'cancelled') then
    return jsonb_build_object('job_id', p_job_id::text, 'status', v_status, 'reasons', jsonb_build_array(
      jsonb_build_object('code', 'finished', 'at', v_last.finished_at, 'message', format('It %s at %s%s.',
        case v_status when 'completed' then 'completed' when 'failed' then 'failed for good' else 'was cancelled' end,
        to_char(v_last.finished_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
        coalesce(': ' || left(coalesce(v_last.error ->> 'message', v_last.reason), 300), '')))));
  end if;

  if v_status = 'processing' then
    select lease.*, worker.name as worker_name, worker.seen_at,
      queue.lane_of(worker.details, v_job.queue_name) as told
    into v_lease
    from queue.leases as lease left join queue.workers as worker on worker.id = lease.worker_id
    where lease.id = queue.live_lease(p_job_id);
    v_reasons := v_reasons || jsonb_build_object(
      'code', 'processing', 'worker_id', v_lease.worker_name, 'lease_id', v_lease.id::text,
      'lease_expires_at', v_lease.expires_at,
      'message', case
        when v_lease.expires_at < v_now then format(
          'The lease of worker %s ran out at %s; the next clean-up takes the job back.', v_lease.worker_name,
          to_char(v_lease.expires_at at time zone 'UTC', 'HH24:MI:SS "UTC"'))
        -- It may still lie in the worker, which alone knows.
        when queue.number_of(v_lease.told, '{fetched}') > 0 then format(
          'Worker %s has fetched it, and runs jobs in %s of %s slots; its lease runs until %s.', v_lease.worker_name,
          queue.number_of(v_lease.told, '{running}'), queue.number_of(v_lease.told, '{slots}'),
          to_char(v_lease.expires_at at time zone 'UTC', 'HH24:MI:SS "UTC"'))
        else format('Worker %s is processing it; its lease runs until %s.', v_lease.worker_name,
          to_char(v_lease.expires_at at time zone 'UTC', 'HH24:MI:SS "UTC"'))
      end);
    if exists (select from queue.cancellations as request where request.job_id = p_job_id) then
      v_reasons := v_reasons || jsonb_build_object('code', 'cancel_requested',
        'message', 'Somebody asked to cancel it; its handler has been told or will be at its next sign of life.');
    end if;
    return jsonb_build_object('job_id', p_job_id::text, 'status', v_status, 'reasons', v_reasons);
  end if;

  if v_status = 'blocked' then
    select v_reasons || jsonb_build_object(
      'code', 'blocked', 'blocked_by', jsonb_agg(parent.id::text order by parent.id),
      'message', format('It waits for %s other job%s: %s.', count(*), case when count(*) = 1 then '' else 's' end,
        string_agg(format('%s (%s)', parent.id, parent.status), ', ' order by parent.id)
          filter (where parent.position <= 5) || case when count(*) > 5 then ', …' else '' end))
    into v_reasons
    from (
      select edge.parent_id as id, queue.status_of(edge.parent_id) as status,
        row_number() over (order by edge.parent_id) as position
      from queue.dependencies as edge where edge.child_id = p_job_id
    ) as parent;
  end if;
  if v_status = 'scheduled' then
    select v_reasons || jsonb_build_object('code', 'not_due', 'due_at', token.at, 'message', format(
      'It is due at %s (%s)%s.', to_char(token.at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
      case when token.at > v_now then 'in ' || date_trunc('second', token.at - v_now)::text else 'now' end,
      case when v_last.outcome in ('failed', 'lost') then format(', after attempt %s failed: %s', v_last.attempt,
        left(coalesce(v_last.error ->> 'message', ''), 300)) else '' end))
    into v_reasons
    from queue.scheduled as token where token.id = p_job_id;
  end if;
  if v_job.is_paused then
    v_reasons := v_reasons || jsonb_build_object('code', 'queue_paused', 'queue', v_job.queue_name,
      'message', format('The queue %s has been paused since %s%s.', v_job.queue_name,
        to_char(v_job.paused_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), coalesce(': ' || v_job.paused_reason, '')));
  end if;
  if not exists (
    select from queue.workers as worker
    where worker.is_registered and worker.seen_at > v_now - v_timeout
      and (worker.type_names is null or v_job.type_name = any (worker.type_names))
      and (worker.queue_names is null or v_job.queue_name = any (worker.queue_names))
  ) then
    v_reasons := v_reasons || jsonb_build_object('code', 'no_live_worker', 'type', v_job.type_name,
      'message', format('No live worker for its type %s on the queue %s.', v_job.type_name, v_job.queue_name));
  end if;
  if v_status = 'pending' then
    -- Whoever locks a row holds the lock of his own transaction id.
    select lock.pid into v_holder
    from queue.ready as token
    join pg_catalog.pg_locks as lock on lock.locktype = 'transactionid' and lock.transactionid = token.xmax
    where token.id = p_job_id and token.xmax <> '0' and lock.granted
    limit 1;
    if found then
      v_reasons := v_reasons || jsonb_build_object('code', 'held', 'pid', v_holder, 'message', format(
        'A transaction that is still open (process %s) names it as a parent, or is about to change it: it can''t be claimed before that ends.',
        v_holder));
    end if;
  end if;
  if v_status = 'pending' and v_reasons = '[]' then
    select count(*) into v_ahead from (
      select from queue.ready as token, queue.ready as own
      where own.id = p_job_id and token.queue_id = own.queue_id
        and (token.priority, token.at, token.id) < (own.priority, own.at, own.id)
      limit 10001
    ) as ahead;
    v_reasons := v_reasons || jsonb_build_object('code', 'waiting_its_turn', 'ahead', least(v_ahead, 10000),
      'message', case when v_ahead = 0 then 'It is next in its queue.'
        else format('%s%s jobs of its queue come first.', case when v_ahead > 10000 then 'More than ' else '' end, least(v_ahead, 10000)) end)
      || coalesce(queue.busy_reason(v_job.type_name, v_job.queue_name, v_now), '[]');
  end if;
  return jsonb_build_object('job_id', p_job_id::text, 'status', v_status, 'reasons', v_reasons);
end;
$$;
comment on function queue.explain is 'Why a job is not running, or what became of it: its status and an ordered list of reasons, each a code and a sentence.';

-- From one lane to the next: what is read does not grow with the jobs that are pending, only with the tenants that have some.
create function queue.oldest_pending()
returns table (queue_id integer, at timestamptz)
language plpgsql
stable
set search_path = pg_temp
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
set search_path = pg_temp
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
set search_path = pg_temp
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
