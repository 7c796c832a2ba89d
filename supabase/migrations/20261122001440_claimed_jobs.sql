-- How claimed jobs are told to a worker: the facts that go with their ids, as many as fit into an answer.
--   processing -> pending, in the transaction of the claim, for what does not fit
--
-- Locks: none beyond those of the claim, whose lease nobody else can see yet.

create function queue.squeeze(p_values bigint[])
returns bigint[]
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_values[1] = all (p_values) then
    return p_values[1:1];
  end if;
  return p_values;
end;
$$;
comment on function queue.squeeze is 'One element for an array whose elements are all the same.';

create function queue.how_many_fit(p_ids bigint[], p_budget bigint)
returns integer
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_id bigint;
  v_count integer := 0;
begin
  -- One by one, so that no more is unpacked than what fits, and one beyond.
  foreach v_id in array p_ids loop
    p_budget := p_budget - coalesce((
      select pg_column_size(job.payload #> '{}') from queue.jobs as job where job.id = v_id
    ), 0);
    exit when p_budget < 0 and v_count > 0;
    v_count := v_count + 1;
  end loop;
  return v_count;
end;
$$;
comment on function queue.how_many_fit is
  'How many of these jobs, from the first on, have payloads of no more than p_budget bytes in all, as unpacked jsonb; at least one.';

-- By columns, and what is the same for all jobs once: a JSON object for each job would cost more than finding it. The payloads are
-- put together without being parsed again.
create function queue.job_columns(
  p_ids bigint[], p_attempts smallint[], p_leases bigint[], p_budget bigint,
  out o_jobs json, out o_may_run_once boolean, out o_count integer
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_start bigint := p_ids[1];
  v_first bigint;
  v_last bigint;
  v_counts_up boolean;
  v_is_run boolean;
  v_is_same_order boolean;
  v_is_ascending boolean;
  v_fact record;
  v_types integer[];
  v_queues integer[];
  v_tenants integer[];
begin
  o_count := cardinality(p_ids);
  select min(given.id), max(given.id), bool_and(given.id = v_start + given.place - 1)
  into v_first, v_last, v_counts_up
  from unnest(p_ids) with ordinality as given (id, place);
  -- Mostly the ids follow on each other: then one walk through the index finds all.
  v_is_run := v_last - v_first + 1 = cardinality(p_ids);
  -- The bounds are for the planner: it prunes partitions by them, and not by an array.
  select
    array_agg(fact.id) as ids, bool_or(not fact.is_small) as has_large,
    json_agg(case when fact.is_small then fact.payload end) as payloads,
    array_agg(fact.type_id) as types, array_agg(fact.queue_id) as queues, array_agg(fact.tenant_id) as tenants,
    array_agg(fact.priority) as priorities, array_agg(fact.max_retries) as max_retries,
    array_agg(floor(date_part('epoch', fact.created_at) * 1000)::bigint) as created,
    array_agg(floor(date_part('epoch', fact.scheduled_at) * 1000)::bigint) as scheduled,
    json_agg(fact.options) filter (where fact.options is not null) as options,
    array_agg(fact.id) filter (where fact.options is not null) as with_options,
    bool_and(fact.scheduled_at is null) as is_unscheduled,
    bool_or(fact.max_retries = 0) as may_run_once
  into v_fact
  from (
    -- What is neither compressed nor stored elsewhere is small; both are told without unpacking it.
    select job.*, p_budget is null
      or (pg_column_size(job.payload) <= 2048 and pg_column_compression(job.payload) is null) as is_small
    from queue.jobs as job
    where v_is_run and job.id between v_first and v_last
    union all
    select job.*, p_budget is null
      or (pg_column_size(job.payload) <= 2048 and pg_column_compression(job.payload) is null)
    from queue.jobs as job
    where not v_is_run and job.id = any (p_ids) and job.id between v_first and v_last
  ) as fact;
  if v_fact.has_large then
    o_count := queue.how_many_fit(p_ids, p_budget);
    select fitting.o_jobs, fitting.o_may_run_once into o_jobs, o_may_run_once
    from queue.job_columns(p_ids[:o_count], p_attempts[:o_count], p_leases[:o_count], null) as fitting;
    return;
  end if;
  v_types := queue.squeeze(v_fact.types::bigint[]);
  v_queues := queue.squeeze(v_fact.queues::bigint[]);
  v_tenants := queue.squeeze(v_fact.tenants::bigint[]);

  o_may_run_once := v_fact.may_run_once;
  v_is_same_order := coalesce(v_fact.ids = p_ids, false);
  -- Neighbours are not always in the order of their ids: the claim goes by priority and time, and the facts come as they
  -- were written. Only what is checked to count up from the first id is sent as a first id.
  v_is_ascending := v_counts_up and v_is_same_order;
  o_jobs := json_build_object(
    'first', case when v_is_ascending then v_first::text end,
    'ids', case when not v_is_ascending then p_ids::text[] end,
    'attempts', queue.squeeze(p_attempts::bigint[]), 'leases', queue.squeeze(p_leases)::text[],
    -- All that follows is in the order of these.
    'fact_ids', case when not v_is_same_order then coalesce(v_fact.ids, '{}')::text[] end, 'payloads', v_fact.payloads,
    'types', v_types, 'queues', v_queues, 'tenants', v_tenants,
    'priorities', queue.squeeze(v_fact.priorities::bigint[]),
    'max_retries', queue.squeeze(v_fact.max_retries::bigint[]),
    'created', queue.squeeze(v_fact.created), 'scheduled', case when not v_fact.is_unscheduled then v_fact.scheduled end,
    'options', v_fact.options, 'with_options', v_fact.with_options::text[],
    'type_names', (
      select json_object_agg(known.id, known.name) from queue.types as known where known.id = any (v_types)
    ),
    'queue_names', (
      select json_object_agg(known.id, known.name) from queue.queues as known where known.id = any (v_queues)
    ),
    'tenant_names', (
      select json_object_agg(known.id, known.name) from queue.tenants as known where known.id = any (v_tenants)
    )
  );
end;
$$;
comment on function queue.job_columns is
  'Claimed jobs as arrays, one for each column; an array of one stands for the same value in all jobs, and a first id for ids that follow on each other. And whether one of the jobs has no retries, and how many there are: those from the first on whose payloads fit into p_budget bytes (null: all).';

-- Nobody has heard of these leases yet: what does not fit into the answer goes back as if it had not been claimed.
create function queue.put_back_claimed(p_ids bigint[], p_attempts smallint[], p_leases bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  insert into queue.ready (id, at, queue_id, lane, type_id, priority, attempt, crashes)
  select job.id, coalesce(job.scheduled_at, job.created_at), job.queue_id,
    case when line.is_fifo then 0 else job.tenant_id end, job.type_id, job.priority, given.attempt - 1, lease.crashes
  from unnest(p_ids, p_attempts, p_leases) as given (id, attempt, lease_id)
  join queue.leases as lease on lease.id = given.lease_id
  join queue.jobs as job on job.id = given.id
  join queue.queues as line on line.id = job.queue_id
  order by job.id;
  perform queue.end_detours();
  delete from queue.leases as lease where lease.id = any (p_leases) and lease.job_ids <@ p_ids;
  update queue.leases as lease
  set (job_ids, attempts) = (
    select array_agg(part.job_id order by part.position), array_agg(part.attempt order by part.position)
    from unnest(lease.job_ids, lease.attempts) with ordinality as part (job_id, attempt, position)
    where part.job_id <> all (p_ids)
  )
  where lease.id = any (p_leases);
end;
$$;
comment on function queue.put_back_claimed is 'Takes back the claim of some jobs within its own transaction: they are pending at their old place, and no attempt is counted.';

-- The same for one job, which is what an idle queue has.
create function queue.single_job(
  p_id bigint, p_attempt smallint, p_lease_id bigint,
  out o_jobs json, out o_may_run_once boolean
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  select
    json_build_object(
      'ids', json_build_array(p_id::text), 'attempts', json_build_array(p_attempt),
      'leases', json_build_array(p_lease_id::text), 'payloads', json_build_array(job.payload),
      'types', json_build_array(type.id), 'queues', json_build_array(line.id), 'tenants', json_build_array(job.tenant_id),
      'priorities', json_build_array(job.priority), 'max_retries', json_build_array(job.max_retries),
      'created', json_build_array(queue.epoch_ms(job.created_at)),
      'scheduled', case when job.scheduled_at is not null then json_build_array(queue.epoch_ms(job.scheduled_at)) end,
      'options', case when job.options is not null then json_build_array(job.options) end,
      'with_options', case when job.options is not null then json_build_array(p_id::text) end,
      'type_names', json_build_object(type.id, type.name), 'queue_names', json_build_object(line.id, line.name),
      'tenant_names', case when job.tenant_id > 0 then json_build_object(job.tenant_id, (
        select tenant.name from queue.tenants as tenant where tenant.id = job.tenant_id
      )) end
    ), job.max_retries = 0
  into o_jobs, o_may_run_once
  from queue.jobs as job
  join queue.types as type on type.id = job.type_id
  join queue.queues as line on line.id = job.queue_id
  where job.id = p_id;
end;
$$;
comment on function queue.single_job is 'What job_columns returns, for one job.';
