-- How claimed jobs are told to a worker: the facts that go with their ids.
--
-- Reads only.

create function queue.squeeze(p_values bigint[])
returns bigint[]
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
begin
  if p_values[1] = all (p_values) then
    return p_values[1:1];
  end if;
  return p_values;
end;
$$;
comment on function queue.squeeze is 'One element for an array whose elements are all the same.';

-- By columns, and what is the same for all jobs once: a JSON object for each job would cost more than finding it. The payloads are
-- put together without being parsed again.
create function queue.job_columns(
  p_ids bigint[], p_attempts smallint[], p_leases bigint[],
  out o_jobs json, out o_may_run_once boolean
)
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_first bigint := (select min(given.id) from unnest(p_ids) as given (id));
  v_last bigint := (select max(given.id) from unnest(p_ids) as given (id));
  -- Mostly the ids follow on each other: then one walk through the index finds all.
  v_is_run boolean := v_last - v_first + 1 = cardinality(p_ids);
  v_is_same_order boolean;
  v_is_ascending boolean;
  v_fact record;
  v_types integer[];
  v_queues integer[];
  v_tenants integer[];
begin
  -- The bounds are for the planner: it prunes partitions by them, and not by an array.
  select
    array_agg(fact.id) as ids, json_agg(fact.payload) as payloads,
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
    select job.* from queue.jobs as job
    where v_is_run and job.id between v_first and v_last
    union all
    select job.* from queue.jobs as job
    where not v_is_run and job.id = any (p_ids) and job.id between v_first and v_last
  ) as fact;
  v_types := queue.squeeze(v_fact.types::bigint[]);
  v_queues := queue.squeeze(v_fact.queues::bigint[]);
  v_tenants := queue.squeeze(v_fact.tenants::bigint[]);

  o_may_run_once := v_fact.may_run_once;
  v_is_same_order := coalesce(v_fact.ids = p_ids, false);
  -- Neighbours are not always in the order of their ids: the claim goes by priority and time, and the facts come as they
  -- were written. Only what is checked to count up from the first id is sent as a first id.
  v_is_ascending := v_is_run and v_is_same_order and p_ids = array(select generate_series(v_first, v_last));
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
  'Claimed jobs as arrays, one for each column; an array of one stands for the same value in all jobs, and a first id for ids that follow on each other. And whether one of the jobs has no retries.';

-- The same for one job, which is what an idle queue has.
create function queue.single_job(
  p_id bigint, p_attempt smallint, p_lease_id bigint,
  out o_jobs json, out o_may_run_once boolean
)
language plpgsql
stable
set search_path = ''
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
