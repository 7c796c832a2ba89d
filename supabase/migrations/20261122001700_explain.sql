-- An answer to what people ask: why is this job not running? Changes nothing, locks nothing.

-- From one lane to the next, and in each only what comes before the job: what comes after it is not read, however much it is.
create function queue.jobs_ahead(p_job_id bigint)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_own queue.ready;
begin
  select token.* into v_own from queue.ready as token where token.id = p_job_id;
  return (
    with recursive lane as (
      (
        select token.priority, token.lane from queue.ready as token
        where token.queue_id = v_own.queue_id and token.priority <= v_own.priority
        order by token.priority, token.lane limit 1
      )
      union all
      select next.* from lane
      cross join lateral (
        select token.priority, token.lane from queue.ready as token
        where token.queue_id = v_own.queue_id and token.priority <= v_own.priority
          and (token.priority, token.lane) > (lane.priority, lane.lane)
        order by token.priority, token.lane limit 1
      ) as next
    )
    select count(*) from (
      select from lane
      cross join lateral (
        select from queue.ready as token
        where token.queue_id = v_own.queue_id and token.priority = lane.priority and token.lane = lane.lane
          and (token.at, token.id) < (case when lane.priority < v_own.priority then 'infinity' else v_own.at end, v_own.id)
        order by token.at, token.id
        limit 10001
      ) as earlier
      limit 10001
    ) as ahead
  );
end;
$$;
comment on function queue.jobs_ahead is 'How many pending jobs of its queue come before a pending one, by priority and age; 10001 means that there are more.';

create function queue.explain(p_job_id bigint)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
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
    v_ahead := queue.jobs_ahead(p_job_id);
    v_reasons := v_reasons || jsonb_build_object('code', 'waiting_its_turn', 'ahead', least(v_ahead, 10000),
      'message', case when v_ahead = 0 then 'It is next in its queue.'
        else format('%s%s jobs of its queue come first.', case when v_ahead > 10000 then 'More than ' else '' end, least(v_ahead, 10000)) end)
      || coalesce(queue.busy_reason(v_job.type_name, v_job.queue_name, v_now), '[]');
  end if;
  return jsonb_build_object('job_id', p_job_id::text, 'status', v_status, 'reasons', v_reasons);
end;
$$;
comment on function queue.explain is 'Why a job is not running, or what became of it: its status and an ordered list of reasons, each a code and a sentence.';
