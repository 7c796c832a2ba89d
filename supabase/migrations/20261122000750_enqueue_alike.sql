-- Bulk enqueue of jobs that differ in their payloads only: what they share is checked and looked up once.
--   (nothing) -> pending | scheduled; arrivals where another transaction is just making a name
--
-- Locks: new names, then an end user's quota; nothing else.

create function queue.enqueue_alike(
  p_type text,
  p_payloads jsonb,
  p_priority text default 'normal',
  p_scheduled_at timestamptz default null,
  p_tenant_id text default null,
  p_queue text default null,
  p_max_retries integer default null,
  p_options jsonb default null
)
returns bigint[]
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := queue.clock();
  v_count integer := case when jsonb_typeof(p_payloads) = 'array' then jsonb_array_length(p_payloads) end;
  v_limit integer;
  v_rank smallint := queue.priority_rank(coalesce(p_priority, 'normal'));
  v_is_future boolean := coalesce(p_scheduled_at > v_now, false);
  v_born queue.job_status := case when v_is_future then 'scheduled' else 'pending' end::queue.job_status;
  v_type_id integer;
  v_queue_id integer;
  v_is_fifo boolean;
  v_lane integer;
  v_tenant_id integer;
  v_max_retries integer;
  v_large jsonb;
  v_ids bigint[];
  v_is_end_user boolean := queue.is_end_user();
  v_is_metered boolean := false;
  v_is_first boolean := false;
begin
  if v_count is null or v_count > 100000 then
    raise exception 'invalid jobs: %', coalesce(v_count || ' payloads in one call', 'the payloads must be a JSON array')
      using errcode = 'MR015', detail = 'Expected an array of up to 100000 payloads.', hint = 'Make several calls.';
  end if;
  if v_is_end_user then
    p_tenant_id := queue.authorize_enqueue(p_type, p_tenant_id);
    if p_queue is distinct from p_type and p_queue is not null then
      raise exception 'not allowed to choose a queue' using errcode = '42501', hint = 'Leave p_queue out.';
    end if;
  end if;
  select type.id, line.id, coalesce(tenant.id, 0), coalesce(p_max_retries, type.max_retries), line.is_fifo,
    settings.max_payload_bytes
  into v_type_id, v_queue_id, v_tenant_id, v_max_retries, v_is_fifo, v_limit
  from queue.types as type
  join queue.queues as line on line.name = coalesce(p_queue, p_type)
  join queue.type_queues as pair on pair.type_id = type.id and pair.queue_id = line.id
  left join queue.tenants as tenant on tenant.name = p_tenant_id
  cross join queue.settings
  where type.name = p_type;

  if v_rank is null or p_scheduled_at is not null or p_max_retries is not null then
    perform queue.check_job('{}', coalesce(p_priority, 'normal'), p_scheduled_at, p_max_retries, null);
  end if;
  if p_options is not null then
    perform queue.check_options(p_options);
  end if;
  if v_count = 0 then
    return array[]::bigint[];
  end if;
  if v_type_id is null or (v_tenant_id = 0 and p_tenant_id is not null) then
    select made.o_type_id, made.o_queue_id, made.o_tenant_id, coalesce(p_max_retries, made.o_max_retries), made.o_is_fifo
    into v_type_id, v_queue_id, v_tenant_id, v_max_retries, v_is_fifo
    from queue.intern_names(p_type, p_queue, p_tenant_id) as made;
    v_is_first := v_limit is null and v_type_id is not null;
    v_limit := (select settings.max_payload_bytes from queue.settings);
  end if;
  -- None is larger than all of them. The empty path unpacks what comes compressed from a table.
  if pg_column_size(p_payloads #> '{}') > v_limit then
    select item.payload into v_large
    from jsonb_array_elements(p_payloads) as item (payload)
    where pg_column_size(item.payload) > v_limit
    limit 1;
    if v_large is not null then
      perform queue.check_job(v_large, 'normal', null, null, null);
    end if;
  end if;
  if v_is_end_user then
    perform queue.refuse_bloated(item.ordinal)
    from jsonb_array_elements(p_payloads) with ordinality as item (payload, ordinal)
    where queue.is_bloated(item.payload) order by item.ordinal limit 1;
    v_is_metered := queue.hold_quota(p_tenant_id, v_count);
  end if;

  perform queue.ensure_generation();
  if v_type_id is null then
    with input as materialized (
      select nextval('queue.job_ids') as id, item.payload from jsonb_array_elements(p_payloads) as item (payload)
    ),
    arrival as (
      insert into queue.arrivals (id, created_at, scheduled_at, type, queue, tenant_id, priority, max_retries, options, payload)
      select input.id, v_now, p_scheduled_at, p_type, coalesce(p_queue, p_type), p_tenant_id, v_rank, p_max_retries, p_options,
        input.payload
      from input
    )
    select array_agg(input.id) into v_ids from input;
    if v_is_metered then
      perform queue.charge_quota(p_tenant_id, v_ids);
    end if;
    perform queue.ring_for_names(array[p_type], array[coalesce(p_queue, p_type)], 1);
    return v_ids;
  end if;

  v_lane := case when v_is_fifo then 0 else v_tenant_id end;
  with input as materialized (
    select nextval('queue.job_ids') as id, item.payload from jsonb_array_elements(p_payloads) as item (payload)
  ),
  fact as (
    insert into queue.jobs (
      id, created_at, scheduled_at, type_id, queue_id, tenant_id, born, max_retries, priority, payload, options
    )
    select input.id, v_now, p_scheduled_at, v_type_id, v_queue_id, v_tenant_id, v_born, v_max_retries, v_rank,
      input.payload, p_options
    from input
  ),
  token as (
    insert into queue.ready (id, at, queue_id, lane, type_id, priority)
    select input.id, v_now, v_queue_id, v_lane, v_type_id, v_rank from input where not v_is_future
  )
  select array_agg(input.id) into v_ids from input;
  if v_is_metered then
    perform queue.charge_quota(p_tenant_id, v_ids);
  end if;

  if v_is_future then
    insert into queue.scheduled (id, at, queue_id, lane, type_id, priority)
    select made.id, p_scheduled_at, v_queue_id, v_lane, v_type_id, v_rank from unnest(v_ids) as made (id);
    return v_ids;
  end if;
  if v_is_first then
    perform queue.ring_for_names(array[p_type], array[coalesce(p_queue, p_type)], v_count);
  end if;
  if exists (select from queue.bells as bell where bell.queue_id = v_queue_id)
    or exists (select from queue.bells as bell where bell.queue_id = 0)
  then
    perform queue.ring(v_queue_id, v_count, array[v_type_id]);
  end if;
  return v_ids;
end;
$$;
comment on function queue.enqueue_alike is
  'Enqueues a job for each payload of a JSON array, in the caller''s transaction; returns their ids in its order. All or none. Raises as enqueue_one does, and MR015.';
