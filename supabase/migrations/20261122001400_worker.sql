-- What a long-lived worker calls beside its work: sign in, sleep, report, sign out.

create function queue.register_worker(
  p_name text, p_details jsonb, p_queues text[], p_types text[], p_tenant_id text default null
)
returns json
language plpgsql
volatile
security definer
set search_path = pg_temp
as $$
declare
  v_now timestamptz := queue.clock();
  v_id integer;
begin
  if p_name is null or char_length(p_name) not between 1 and 200 then
    raise exception 'invalid worker id: %', coalesce(quote_literal(left(p_name, 80)), 'null')
      using errcode = 'MR013', detail = 'It must have 1 to 200 characters.',
        hint = 'Use a new UUID for each start of a process.';
  end if;
  perform queue.ensure_generation();
  insert into queue.workers as worker (
    name, started_at, seen_at, is_registered, queue_names, type_names, details
  ) values (p_name, v_now, v_now, true, case when not '*' = any (p_queues) then p_queues end, p_types, p_details)
  on conflict (name) do update set
    seen_at = v_now, is_registered = true, queue_names = excluded.queue_names, type_names = p_types, details = p_details
  returning worker.id into v_id;
  return json_build_object(
    'worker', v_id,
    'queue_ids', (
      select coalesce(json_agg(queue.try_name('queue', given.name) order by given.position), '[]')
      from unnest(p_queues) with ordinality as given (name, position)
      where given.name <> '*'
    ),
    'type_ids', (
      select coalesce(json_agg(queue.try_name('type', given.name) order by given.position), '[]')
      from unnest(p_types) with ordinality as given (name, position)
    ),
    'tenant_id', case when p_tenant_id is not null then queue.try_name('tenant', p_tenant_id) end
  );
end;
$$;
comment on function queue.register_worker is
  'Signs a worker in under a name that is new at each start; interns its queues and types, and the tenant if it serves one only, and returns their ids: null for a name that an open transaction is making, to be asked for again. Raises MR012 and MR013.';

create function queue.worker_names(p_queues text[], p_types text[], p_tenant_id text)
returns json
language plpgsql
volatile
security definer
set search_path = pg_temp
as $$
begin
  if exists (select from queue.arrivals) then
    perform queue.adopt_arrivals();
  end if;
  return json_build_object(
    'queue_ids', (
      select coalesce(json_agg(queue.try_name('queue', given.name) order by given.position), '[]')
      from unnest(p_queues) with ordinality as given (name, position)
      where given.name <> '*'
    ),
    'type_ids', (
      select coalesce(json_agg(queue.try_name('type', given.name) order by given.position), '[]')
      from unnest(p_types) with ordinality as given (name, position)
    ),
    'tenant_id', case when p_tenant_id is not null then queue.try_name('tenant', p_tenant_id) end
  );
end;
$$;
comment on function queue.worker_names is 'The ids of a worker''s names, as register_worker returns them.';

create function queue.heartbeat_worker(p_worker integer, p_details jsonb default null)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_temp
as $$
begin
  perform from queue.workers as worker where worker.id = p_worker for no key update skip locked;
  if not found then
    -- Somebody else may hold the row at this moment.
    return exists (select from queue.workers as worker where worker.id = p_worker);
  end if;
  -- The last sign of life tells by how much the clock was set back: it is not written over before that was made use of.
  if (select worker.seen_at from queue.workers as worker where worker.id = p_worker) > queue.clock() then
    perform queue.follow_clock();
  end if;
  update queue.workers as worker
  set seen_at = queue.clock(), details = coalesce(p_details, worker.details)
  where worker.id = p_worker;
  return true;
end;
$$;
comment on function queue.heartbeat_worker is 'A worker''s sign of life; false when its row was pruned and it must register again.';

create function queue.disarm_bells(p_worker integer)
returns void
language plpgsql
volatile
security definer
set search_path = pg_temp
as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  -- Not those that an enqueue holds: its job is on its way already, and its transaction may be long.
  delete from queue.bells
  where ctid = any (array(
    select bell.ctid from queue.bells as bell where bell.worker_id = p_worker for update skip locked
  ));
end;
$$;
comment on function queue.disarm_bells is 'This worker takes no more jobs: none shall ring for it or be offered to it.';

create function queue.unregister_worker(p_worker integer)
returns void
language plpgsql
volatile
security definer
set search_path = pg_temp
as $$
begin
  -- A call that is just arming its bells comes to its end first; one that comes later finds it signed out.
  perform pg_advisory_xact_lock(hashtextextended('millrace.bells', p_worker));
  perform queue.disarm_bells(p_worker);
  -- What is on its way to it will find nobody.
  perform queue.settle((
    select jsonb_agg(jsonb_build_object('lease', lease.id, 'id', lease.job_ids[1], 'outcome', 'released'))
    from queue.leases as lease where lease.worker_id = p_worker and lease.is_offered
  ), p_worker);
  update queue.workers as worker
  set is_registered = false, seen_at = queue.clock()
  where worker.id = p_worker;
end;
$$;
comment on function queue.unregister_worker is 'Signs a worker out: it has stopped in good order.';

-- An enqueue takes a bell by deleting it, and its transaction may stay open. Such a bell can't be locked; that its row has a deleter or
-- locker at all is told by xmax, so that in the common case no row is locked here.
create function queue.pass_held_bells(p_worker integer)
returns void
language plpgsql
volatile
security definer
set search_path = pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_free bigint[];
begin
  if not exists (select from queue.bells as bell where bell.worker_id = p_worker and bell.xmax <> '0')
    and not exists (select from queue.passed_bells as passed where passed.worker_id = p_worker)
  then
    return;
  end if;
  perform set_config('synchronous_commit', 'off', true);
  v_free := array(
    select (bell.queue_id::bigint << 32) + bell.number from queue.bells as bell
    where bell.worker_id = p_worker and bell.xmax <> '0'
    for update skip locked
  );
  insert into queue.passed_bells as passed (queue_id, worker_id, number)
  select bell.queue_id, p_worker, max(bell.number) from queue.bells as bell
  where bell.worker_id = p_worker and bell.xmax <> '0' and (bell.queue_id::bigint << 32) + bell.number <> all (v_free)
  group by bell.queue_id
  on conflict (queue_id, worker_id) do update set number = excluded.number where passed.number < excluded.number;
  -- Their transactions have ended.
  delete from queue.passed_bells as passed
  where passed.worker_id = p_worker and not exists (
    select from queue.bells as bell
    where bell.queue_id = passed.queue_id and bell.worker_id = p_worker and bell.number <= passed.number
  );
  delete from queue.bells as bell
  using queue.passed_bells as passed
  where bell.worker_id = p_worker and passed.worker_id = p_worker and passed.queue_id = bell.queue_id
    and bell.number <= passed.number and (bell.queue_id::bigint << 32) + bell.number = any (v_free);
end;
$$;
comment on function queue.pass_held_bells is
  'Notes which of a worker''s bells open transactions hold: they no longer wake it, and it can arm others.';

create function queue.arm_bells(
  p_worker integer, p_queue_ids integer[], p_type_ids integer[], p_channel text default null, p_offer_ms integer default null,
  p_accept bigint default null, p_lease_ms integer default null
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_is_alive boolean;
begin
  -- A bell that a crash takes away is no loss: every worker looks by itself from time to time.
  perform set_config('synchronous_commit', 'off', true);
  if p_accept is not null then
    perform from queue.leases as lease
    where lease.id = p_accept and lease.worker_id = p_worker for no key update skip locked;
    v_is_alive := found;
    update queue.leases as lease
    set is_offered = false, expires_at = greatest(lease.expires_at, queue.clock() + p_lease_ms * interval '1 millisecond')
    where v_is_alive and lease.id = p_accept and lease.worker_id = p_worker;
  end if;
  -- Offers to a worker that is gone would wait in vain, so its last call may have come too late to arm anything.
  perform pg_advisory_xact_lock_shared(hashtextextended('millrace.bells', p_worker));
  if not exists (select from queue.workers as worker where worker.id = p_worker and worker.is_registered) then
    return v_is_alive;
  end if;
  perform queue.pass_held_bells(p_worker);
  -- For very many queues one bell stands: it costs the same however many there are, and brings no job itself.
  if cardinality(queue.lines(p_queue_ids, null, p_type_ids)) > 256 then
    insert into queue.bells (queue_id, worker_id, number, type_ids)
    select 0, p_worker, held.number + 1, p_type_ids
    from (
      select coalesce(max(passed.number), 0) as number from queue.passed_bells as passed
      where passed.queue_id = 0 and passed.worker_id = p_worker
    ) as held
    where not exists (
      select from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = p_worker and bell.number > held.number
    )
    on conflict do nothing;
    return v_is_alive;
  end if;
  -- A bell of a queue where something was pending becomes one that brings jobs.
  if p_channel is not null then
    delete from queue.bells
    where ctid = any (array(
      select bell.ctid from queue.bells as bell
      where bell.worker_id = p_worker and bell.channel is null and not exists (
        select from queue.ready as token where token.queue_id = bell.queue_id
      )
      for update skip locked
    ));
  end if;
  insert into queue.bells (queue_id, worker_id, number, type_ids, channel, offer_ms)
  select line.id, p_worker, coalesce(passed.number, 0) + 1, p_type_ids, case when is_empty then p_channel end, case when is_empty then p_offer_ms end
  from unnest(queue.lines(p_queue_ids, null, p_type_ids)) as line (id)
  -- What is pending comes first.
  cross join lateral (
    select not exists (select from queue.ready as token where token.queue_id = line.id)
  ) as look (is_empty)
  left join queue.passed_bells as passed on passed.queue_id = line.id and passed.worker_id = p_worker
  where not exists (
    select from queue.bells as bell
    where bell.queue_id = line.id and bell.worker_id = p_worker and bell.number > coalesce(passed.number, 0)
  )
  on conflict do nothing;
  return v_is_alive;
end;
$$;
comment on function queue.arm_bells is
  'This worker sleeps: the next job that becomes ready on one of these queues wakes it, once, by NOTIFY millrace. With a channel a new job may come to it there, leased already. The worker begins with the offered lease p_accept: false when that was lost.';

-- The answer of advance can get lost after its commit, or the commit comes after the worker gave up: then it holds leases it never heard
-- of. A call of the worker can be late as well, so it never says "all but these": it asks first which leases there are, and names
-- those that none of its claims has brought.
create function queue.other_leases(p_worker integer, p_known_leases bigint[])
returns json
language plpgsql
stable
security definer
set search_path = pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return (
    select coalesce(json_agg(lease.id::text), '[]') from queue.leases as lease
    where lease.worker_id = p_worker and not lease.is_handed_over and not lease.is_offered
      and lease.id <> all (coalesce(p_known_leases, '{}'))
  );
end;
$$;
comment on function queue.other_leases is
  'The leases of a worker other than these, as texts; those that it handed over, or that are only offered to it, are not among them.';

create function queue.forget_leases(p_worker integer, p_lease_ids bigint[])
returns integer
language plpgsql
volatile
security definer
set search_path = pg_temp
as $$
declare
  v_count integer;
begin
  select count(*) into v_count from queue.settle((
    select coalesce(jsonb_agg(jsonb_build_object('lease', lease.id, 'id', held.job_id, 'outcome', 'released')), '[]')
    from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
    where lease.id = any (p_lease_ids) and lease.worker_id = p_worker and not lease.is_handed_over
  ), p_worker);
  return v_count;
end;
$$;
comment on function queue.forget_leases is
  'Releases, with the attempt given back, the jobs of these leases of a worker, which has not begun any of them; returns how many.';

create function queue.open_jobs(
  p_queue_ids integer[], p_except_queue_ids integer[], p_type_ids integer[], p_tenant_id integer default null
)
returns json
language plpgsql
stable
security definer
set search_path = pg_temp
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
set search_path = pg_temp
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

create function queue.report(
  p_job_id bigint, p_percent numeric, p_message text, p_data jsonb, p_lease_id bigint
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_temp
set lock_timeout = '200ms'
set enable_seqscan = off
set jit = off
as $$
declare
  v_lease_id bigint := coalesce(p_lease_id, queue.live_lease(p_job_id));
begin
  -- Locked, so that a lost lease can't write after its rescue.
  perform from queue.leases as lease
  where lease.id = v_lease_id and p_job_id = any (lease.job_ids) for key share;
  if not found or exists (
    select from queue.runs as run where run.job_id = p_job_id and run.lease_id = v_lease_id
  ) then
    return false;
  end if;
  insert into queue.progress as news (job_id, updated_at, percent, message, data)
  values (
    p_job_id, queue.clock(), case when p_percent <> 'NaN' then least(greatest(p_percent, 0), 100) end,
    left(p_message, 1000), p_data
  )
  on conflict (job_id) do update set
    updated_at = excluded.updated_at, percent = coalesce(excluded.percent, news.percent),
    message = coalesce(excluded.message, news.message), data = coalesce(excluded.data, news.data);
  if (select settings.broadcasts from queue.settings) then
    perform queue.broadcast_progress(p_job_id);
  end if;
  return true;
exception
  when lock_not_available then
    -- Somebody else holds the lease, or writes this job's progress in a transaction of his own. Progress is news, not truth.
    return true;
end;
$$;
comment on function queue.report is
  'Stores the progress of a running job; false when the lease was lost. Leaves it out where it would have to wait for somebody.';
