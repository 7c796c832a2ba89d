-- Enqueue up to 100,000 jobs in one call, in the caller's transaction, with dependencies among them or on others.
--   (nothing) -> blocked | pending | scheduled; blocked -> cancelled at once when a parent has already failed
--   (nothing) -> arrivals, all of them, where another transaction is just making a name of one
--
-- Locks, in this order: new names, an end user's quota, new idempotency keys, the tokens of named parents (FOR KEY SHARE, in id order:
-- while the caller's transaction is open these parents are not claimed, so their end can't miss the new child).

-- Makes the names of all jobs, or none. See queue.intern_names for the lock_timeout.
create function queue.intern_all(p_jobs queue.job_input[])
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '5ms'
set plan_cache_mode = force_custom_plan
as $$
begin
  -- In the order of names, so that two calls that bring the same new names don't hold each other up.
  perform queue.intern_type(given.type) from (
    select distinct item.type from unnest(p_jobs) as item order by item.type
  ) as given;
  perform queue.intern_queue(given.queue) from (
    select distinct item.queue from unnest(p_jobs) as item order by item.queue
  ) as given;
  perform queue.intern_tenant(given.tenant_id) from (
    select distinct item.tenant_id from unnest(p_jobs) as item order by item.tenant_id
  ) as given;
  perform queue.intern_type_queue(given.type_id, given.queue_id) from (
    select distinct type.id as type_id, line.id as queue_id
    from (select distinct item.type, item.queue from unnest(p_jobs) as item) as pair
    join queue.types as type on type.name = pair.type
    join queue.queues as line on line.name = pair.queue
    order by 1, 2
  ) as given;
  return true;
exception
  when lock_not_available or serialization_failure or deadlock_detected then
    return false;
end;
$$;
comment on function queue.intern_all is
  'Makes the names of a call''s jobs that are new; false, and none made, when an open transaction is making one of them.';

create function queue.check_element(p_job queue.job_input, p_is_only boolean)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_state text;
  v_detail text;
  v_hint text;
begin
  perform queue.check_job(p_job.payload, p_job.priority, p_job.scheduled_at, p_job.max_retries, p_job.idempotency_key);
  perform queue.check_options(p_job.options);
  perform queue.check_name('job type', p_job.type, 'MR001');
  perform queue.check_name('queue', p_job.queue, 'MR011');
  perform queue.check_tenant(p_job.tenant_id);
exception
  when others then
    get stacked diagnostics v_state = returned_sqlstate, v_detail = pg_exception_detail, v_hint = pg_exception_hint;
    if p_is_only or v_state not like 'MR%' then
      raise;
    end if;
    raise exception 'element %: %', p_job.ordinal, sqlerrm using errcode = v_state, detail = v_detail, hint = v_hint;
end;
$$;
comment on function queue.check_element is
  'Raises what is wrong with one of a call''s jobs, as check_job, check_options, check_name and check_tenant do, and says which element it is.';

-- One look at each distinct combination instead of each job: 100,000 jobs have few of them.
create function queue.check_jobs(p_jobs queue.job_input[])
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_limit integer := (select settings.max_payload_bytes from queue.settings);
  v_at bigint;
  v_is_only boolean := cardinality(p_jobs) = 1;
  v_new bigint[];
  v_types text[];
  v_queues text[];
begin
  for v_at in
    select item.ordinal from unnest(p_jobs) as item
    where item.priority not in ('critical', 'high', 'normal', 'low')
      or pg_column_size(item.payload) > v_limit
      or not isfinite(item.scheduled_at)
      or item.max_retries not between 0 and 10000
      or char_length(item.idempotency_key) not between 1 and 255
    order by item.ordinal limit 1
  loop
    perform queue.check_element(p_jobs[v_at], v_is_only);
  end loop;
  for v_at in
    select min(item.ordinal) from unnest(p_jobs) as item where item.options is not null group by item.options order by 1
  loop
    perform queue.check_element(p_jobs[v_at], v_is_only);
  end loop;
  select array_agg(fresh.ordinal order by fresh.ordinal), array_agg(fresh.type) filter (where not fresh.is_pair),
    array_agg(fresh.queue) filter (where not fresh.is_pair)
  into v_new, v_types, v_queues
  from (
    select given.ordinal, given.type, given.queue, pair.type_id is not null as is_pair
    from (
      select min(item.ordinal) as ordinal, item.type, item.queue, item.tenant_id
      from unnest(p_jobs) as item group by item.type, item.queue, item.tenant_id
    ) as given
    left join queue.types as type on type.name = given.type
    left join queue.queues as line on line.name = given.queue
    left join queue.type_queues as pair on pair.type_id = type.id and pair.queue_id = line.id
    left join queue.tenants as tenant on tenant.name = given.tenant_id
    where pair.type_id is null or (tenant.id is null and given.tenant_id is not null)
  ) as fresh;
  if v_new is null then
    return true;
  end if;
  foreach v_at in array v_new loop
    perform queue.check_element(p_jobs[v_at], v_is_only);
  end loop;
  if not queue.intern_all(p_jobs) then
    return false;
  end if;
  if v_types is not null then
    perform queue.ring_for_names(v_types, v_queues, cardinality(p_jobs));
  end if;
  return true;
end;
$$;
comment on function queue.check_jobs is
  'Checks all jobs of a call and makes their names; false when an open transaction is making one of them. Raises as check_element does.';

-- The edges of a call, as positions and parents' ids. A ref may only name an earlier element, so no cycle can be told.
create function queue.resolve_edges(p_jobs queue.job_input[], p_ids bigint[], p_is_end_user boolean)
returns table (child_id bigint, parent_id bigint, run_anyway boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_fault text;
  v_tenant_id integer;
begin
  select format('element %s depends on the ref %s, which %s', child.ordinal, quote_literal(named.ref), case
    when parent.ordinal is null then 'no element has'
    when parent.ordinal = child.ordinal then 'is its own'
    else 'comes later or closes a cycle' end)
  into v_fault
  from unnest(p_jobs) as child, unnest(child.depends_on_refs) as named (ref)
  left join unnest(p_jobs) as parent on parent.ref = named.ref
  where parent.ordinal is null or parent.ordinal >= child.ordinal
  order by child.ordinal
  limit 1;
  if v_fault is null then
    select format('the ref %s is used twice', quote_literal(item.ref)) into v_fault
    from unnest(p_jobs) as item
    where item.ref is not null group by item.ref having count(*) > 1
    limit 1;
  end if;
  if v_fault is not null then
    raise exception 'invalid dependencies: %', v_fault
      using errcode = 'MR008', detail = 'A job can only depend on jobs that exist or that come earlier in the same call.',
        hint = 'Order the jobs parents first; a cycle can never run.';
  end if;

  v_tenant_id := (select tenant.id from queue.tenants as tenant where tenant.name = queue.caller_tenant());
  select case when cardinality(p_jobs) > 1 then format('element %s: ', child.ordinal) else '' end
    || format('unknown parent job: %s', coalesce(named.id::text, 'null')) into v_fault
  from unnest(p_jobs) as child, unnest(child.depends_on) as named (id)
  left join queue.jobs as parent on parent.id = named.id
    and (not p_is_end_user or parent.tenant_id = v_tenant_id)
  where parent.id is null and not exists (
    select from queue.arrivals as arrival
    where arrival.id = named.id and (not p_is_end_user or arrival.tenant_id = queue.caller_tenant())
  )
  order by child.ordinal
  limit 1;
  if v_fault is not null then
    raise exception '%', v_fault
      using errcode = 'MR007', detail = 'No job has this id, or it was removed after its retention.',
        hint = 'Enqueue the parent first, or in the same call with ref and depends_on_refs.';
  end if;

  return query
  select p_ids[child.ordinal], named.id, coalesce(child.options ->> 'on_parent_failure' = 'run', false)
  from unnest(p_jobs) as child, unnest(child.depends_on) as named (id)
  union
  select p_ids[child.ordinal], p_ids[parent.ordinal], coalesce(child.options ->> 'on_parent_failure' = 'run', false)
  from unnest(p_jobs) as child, unnest(child.depends_on_refs) as named (ref)
  join unnest(p_jobs) as parent on parent.ref = named.ref;
end;
$$;
comment on function queue.resolve_edges is
  'Every edge of a call of enqueue_many. Raises MR007 for an unknown parent, MR008 for a ref that is unknown, repeated, or not earlier.';
