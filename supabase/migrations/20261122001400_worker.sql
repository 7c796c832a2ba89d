-- What a long-lived worker calls: sign in, work, sleep, sign out.
--
-- Locks of advance: leases in id order, children's tokens, then tokens of its claim with skip locked.

create function queue.register_worker(p_name text, p_details jsonb, p_queues text[], p_types text[])
returns json
language plpgsql
volatile
security definer
set search_path = ''
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
  insert into queue.workers as worker (
    name, started_at, seen_at, is_registered, queue_names, type_names, details
  ) values (p_name, v_now, v_now, true, p_queues, p_types, p_details)
  on conflict (name) do update set
    seen_at = v_now, is_registered = true, queue_names = p_queues, type_names = p_types, details = p_details
  returning worker.id into v_id;
  return json_build_object(
    'worker', v_id,
    'queue_ids', (
      select coalesce(json_agg(queue.intern_queue(given.name) order by given.position), '[]')
      from unnest(p_queues) with ordinality as given (name, position)
    ),
    'type_ids', (
      select coalesce(json_agg(queue.intern_type(given.name) order by given.position), '[]')
      from unnest(p_types) with ordinality as given (name, position)
    )
  );
end;
$$;
comment on function queue.register_worker is
  'Signs a worker in under a name that is new at each start; interns its queues and types and returns their ids. Raises MR013.';

create function queue.heartbeat_worker(p_worker integer, p_details jsonb default null)
returns boolean
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  update queue.workers as worker
  set seen_at = queue.clock(), details = coalesce(p_details, worker.details)
  where worker.id = p_worker;
  return found;
end;
$$;
comment on function queue.heartbeat_worker is 'A worker''s sign of life; false when its row was pruned and it must register again.';

create function queue.unregister_worker(p_worker integer)
returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  delete from queue.bells as bell where bell.worker_id = p_worker;
  update queue.workers as worker
  set is_registered = false, seen_at = queue.clock()
  where worker.id = p_worker;
end;
$$;
comment on function queue.unregister_worker is 'Signs a worker out: it has stopped in good order.';

create function queue.arm_bells(p_worker integer, p_queue_ids integer[], p_type_ids integer[])
returns void
language plpgsql
volatile
security definer
set search_path = ''
set enable_seqscan = off
as $$
begin
  insert into queue.bells (queue_id, worker_id)
  select line.id, p_worker from unnest(queue.lines(p_queue_ids, null, p_type_ids)) as line (id)
  where not exists (
    select from queue.bells as bell where bell.queue_id = line.id and bell.worker_id = p_worker
  )
  on conflict do nothing;
end;
$$;
comment on function queue.arm_bells is
  'This worker sleeps: the next job that becomes ready on one of these queues wakes it, once, by NOTIFY millrace.';

-- The text of the JSON is put together by hand, and names are escaped once: json_build_array() for each job costs more
-- than finding it.
create function queue.job_rows(p_ids bigint[], p_attempts smallint[], p_leases bigint[])
returns json
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
set enable_mergejoin = off
set enable_nestloop = off
set jit = off
as $$
declare
  v_first bigint := (select min(given.id) from unnest(p_ids) as given (id));
  v_last bigint := (select max(given.id) from unnest(p_ids) as given (id));
begin
  return (
    -- One index scan for all ids and a hash join: a nested loop would open every partition anew for each job. The
    -- bounds are for the planner: it prunes partitions by them, and not by an array.
    with fact as materialized (
      select job.* from queue.jobs as job where job.id = any (p_ids) and job.id between v_first and v_last
    ),
    held as materialized (
      select held.*, fact.type_id, fact.queue_id, fact.tenant_id, fact.priority, fact.payload, fact.max_retries,
        fact.options, fact.created_at, fact.scheduled_at
      from unnest(p_ids, p_attempts, p_leases) with ordinality as held (id, attempt, lease_id, position)
      join fact on fact.id = held.id
    ),
    type as materialized (
      select known.id, to_json(known.name)::text as name from queue.types as known
      where known.id in (select held.type_id from held)
    ),
    line as materialized (
      select known.id, to_json(known.name)::text as name from queue.queues as known
      where known.id in (select held.queue_id from held)
    ),
    tenant as materialized (
      select known.id, to_json(known.name)::text as name from queue.tenants as known
      where known.id in (select held.tenant_id from held)
    )
    select ('[' || coalesce(string_agg(concat(
      '["', held.lease_id, '","', held.id, '",', type.name, ',', line.name, ',"',
      (array['critical', 'high', 'normal', 'low'])[held.priority + 1], '",', held.payload, ',',
      coalesce(tenant.name, 'null'), ',', held.attempt, ',', held.max_retries, ',',
      floor(date_part('epoch', held.created_at) * 1000)::bigint, ',',
      coalesce(floor(date_part('epoch', held.scheduled_at) * 1000)::bigint::text, 'null'), ',',
      coalesce(held.options::text, 'null'), ']'
    ), ',' order by held.position), '') || ']')::json
    from held
    join type on type.id = held.type_id
    join line on line.id = held.queue_id
    left join tenant on tenant.id = held.tenant_id
  );
end;
$$;
comment on function queue.job_rows is 'Claimed jobs as a JSON array of arrays, in the order given.';

-- A worker whose answer got lost settles again: what stands already as it wanted is not refused.
create function queue.was_settled(p_lease_id bigint, p_job_id bigint, p_outcome text)
returns boolean
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    select exists (
      select from queue.runs as run
      where run.job_id = p_job_id and run.lease_id = p_lease_id
        and run.outcome::text = case p_outcome when 'discarded' then 'failed' else p_outcome end
    )
  );
end;
$$;
comment on function queue.was_settled is 'True when this attempt has ended in this way already.';

-- The answer of advance can get lost after its commit: the worker then holds leases it never heard of.
create function queue.forget_leases(p_worker integer, p_known_leases bigint[])
returns integer
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_count integer;
begin
  select count(*) into v_count from queue.settle((
    select coalesce(jsonb_agg(jsonb_build_object('lease', lease.id, 'id', held.job_id, 'outcome', 'released')), '[]')
    from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
    where lease.worker_id = p_worker and lease.id <> all (coalesce(p_known_leases, '{}'))
  ));
  return v_count;
end;
$$;
comment on function queue.forget_leases is
  'Releases, with the attempt given back, the jobs of a worker''s leases other than these; returns how many. For a worker after an outage, with no other call in flight.';

create function queue.open_jobs(p_queue_ids integer[], p_except_queue_ids integer[], p_type_ids integer[])
returns json
language plpgsql
stable
security definer
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_lines integer[] := queue.lines(p_queue_ids, p_except_queue_ids, p_type_ids);
begin
  return json_build_object(
    'pending', exists (
      select from queue.ready as token
      where token.queue_id = any (v_lines) and (p_type_ids is null or token.type_id = any (p_type_ids))),
    'scheduled', exists (
      select from queue.scheduled as token
      where token.queue_id = any (v_lines) and (p_type_ids is null or token.type_id = any (p_type_ids))),
    'blocked', exists (
      select from queue.waiting as token
      where token.queue_id = any (v_lines) and (p_type_ids is null or token.type_id = any (p_type_ids))),
    'processing', exists (
      select from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
      join queue.jobs as job on job.id = held.job_id
      where job.queue_id = any (v_lines) and (p_type_ids is null or job.type_id = any (p_type_ids))),
    'next_due_in_ms', (
      select greatest(0, ceil(extract(epoch from token.at - queue.clock()) * 1000))
      from queue.scheduled as token
      where token.queue_id = any (v_lines) and (p_type_ids is null or token.type_id = any (p_type_ids))
      order by token.at limit 1)
  );
end;
$$;
comment on function queue.open_jobs is 'Whether jobs of these queues and types are pending, scheduled, blocked or processing, and when the next is due.';

-- The heart of a worker: settles what it finished and claims what is next, in one round trip and one commit.
create function queue.advance(
  p_worker integer,
  p_done_leases bigint[] default null,
  p_done_ids bigint[] default null,
  p_done_elapsed_ms integer[] default null,
  p_done_results json default null,
  p_rest jsonb default null,
  p_limit integer default 0,
  p_queue_ids integer[] default null,
  p_except_queue_ids integer[] default null,
  p_type_ids integer[] default null,
  p_lease_ms integer default 30000,
  p_mark json default null
)
returns json
language plpgsql
volatile
security definer
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_done record;
  v_claim record;
  v_lost_leases bigint[];
  v_lost_ids bigint[];
  v_rest_leases bigint[];
  v_rest_ids bigint[];
  v_statuses json;
begin
  -- All leases of this call are locked at once and in id order: the two halves may name them crosswise.
  if cardinality(p_done_ids) > 0 and jsonb_array_length(p_rest) > 0 then
    perform queue.lock_leases(p_done_leases || array(
      select item.lease from jsonb_to_recordset(p_rest) as item (lease bigint)));
  end if;
  if cardinality(p_done_ids) > 0 then
    select * into v_done from queue.complete_many(p_done_leases, p_done_ids, p_done_elapsed_ms, p_done_results);
    if coalesce(cardinality(v_done.o_done), 0) < cardinality(p_done_ids) then
      select array_agg(lost.lease_id), array_agg(lost.job_id) into v_lost_leases, v_lost_ids
      from (
        select * from unnest(p_done_leases, p_done_ids) as given (lease_id, job_id)
        except
        select * from unnest(v_done.o_done_leases, v_done.o_done)
      ) as lost
      where not queue.was_settled(lost.lease_id, lost.job_id, 'completed');
    end if;
  end if;

  if jsonb_array_length(p_rest) > 0 then
    select array_agg(settled.lease_id), array_agg(settled.job_id),
      json_object_agg(settled.job_id::text, settled.to_status)
    into v_rest_leases, v_rest_ids, v_statuses
    from queue.settle(p_rest) as settled;
    select v_lost_leases || array_agg(lost.lease), v_lost_ids || array_agg(lost.id)
    into v_lost_leases, v_lost_ids
    from jsonb_to_recordset(p_rest) as lost (lease bigint, id bigint, outcome text)
    where (lost.lease, lost.id) not in (select * from unnest(v_rest_leases, v_rest_ids))
      and not queue.was_settled(lost.lease, lost.id, lost.outcome);
  end if;

  if p_limit > 0 then
    select * into v_claim from queue.claim(
      p_worker, p_queue_ids, p_except_queue_ids, p_type_ids, null, p_limit, p_lease_ms, p_mark);
  else
    select null::bigint[] as o_ids, null::smallint[] as o_attempts, null::bigint[] as o_leases,
      null::timestamptz as o_expires_at, null::json as o_mark into v_claim;
  end if;

  return json_build_object(
    'refused', (
      select coalesce(json_agg(json_build_array(lost.lease_id::text, lost.job_id::text)), '[]')
      from unnest(v_lost_leases, v_lost_ids) as lost (lease_id, job_id)
    ),
    'statuses', coalesce(v_statuses, '{}'),
    'retry_in_ms', (
      select coalesce(json_object_agg(token.id::text,
        greatest(0, ceil(extract(epoch from token.at - queue.clock()) * 1000))), '{}')
      from queue.scheduled as token where token.id = any (v_rest_ids)
    ),
    'now', queue.epoch_ms(queue.clock()),
    'expires_at', queue.epoch_ms(v_claim.o_expires_at),
    'jobs', case when v_claim.o_ids is null then '[]'
      else queue.job_rows(v_claim.o_ids, v_claim.o_attempts, v_claim.o_leases) end,
    'mark', v_claim.o_mark,
    'next_due_in_ms', case when v_claim.o_ids is null and p_limit > 0 then (
      select greatest(0, ceil(extract(epoch from token.at - queue.clock()) * 1000))
      from queue.scheduled as token order by token.at limit 1
    ) end
  );
end;
$$;
comment on function queue.advance is
  'Settles finished jobs and claims the next in one commit. Answers which settlements were refused because their lease was lost, what became of the others, the claimed jobs, and where to go on.';

create function queue.job_outcome(p_job_id bigint)
returns json
language sql
stable
security definer
set search_path = ''
set enable_seqscan = off
as $$
  select json_build_object(
    'status', queue.status_of(job.id), 'result', last.result, 'attempts', coalesce(last.attempt, 0),
    'error', coalesce(last.error, case when last.reason is not null then json_build_object('message', last.reason)::jsonb end)
  )
  from queue.jobs as job
  left join lateral (
    select run.result, run.error, run.reason, run.attempt from queue.runs as run
    where run.job_id = job.id order by run.lease_id desc limit 1
  ) as last on true
  where job.id = p_job_id;
$$;
comment on function queue.job_outcome is 'Status, result and last error of a job, for whoever waits for it; null for an unknown job.';

create function queue.report(
  p_job_id bigint, p_percent numeric, p_message text, p_data jsonb, p_lease_id bigint
)
returns boolean
language plpgsql
volatile
security definer
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_lease_id bigint := coalesce(p_lease_id, queue.live_lease(p_job_id));
begin
  -- Locked, so that a lost lease can't write after its rescue.
  perform from queue.leases as lease
  where lease.id = v_lease_id and p_job_id = any (lease.job_ids) for share;
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
  return true;
end;
$$;
comment on function queue.report is 'Stores the progress of a running job; false when the lease was lost.';
