-- Enqueue one job, in the caller's transaction.
--   (nothing) -> pending | scheduled | processing, where a worker waits for such a job
--   (nothing) -> an arrival, where another transaction is just making its type, queue or tenant
-- Jobs with parents take the way of enqueue_many, which is the same for one.
--
-- Locks: an end user's quota, then a new idempotency key's index entry, until the caller commits; bells with skip locked.

create function queue.enqueue_one(
  p_type text,
  p_payload jsonb default '{}',
  p_priority text default 'normal',
  p_scheduled_at timestamptz default null,
  p_tenant_id text default null,
  p_queue text default null,
  p_max_retries integer default null,
  p_depends_on bigint[] default null,
  p_idempotency_key text default null,
  p_options jsonb default null
)
returns table (id bigint, outcome text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_now timestamptz := queue.clock();
  v_payload jsonb := coalesce(p_payload, '{}');
  v_rank smallint := queue.priority_rank(coalesce(p_priority, 'normal'));
  v_type_id integer;
  v_queue_id integer;
  v_tenant_id integer;
  v_max_retries integer;
  v_is_fifo boolean;
  v_limit integer;
  v_id bigint;
  v_known bigint;
  v_scope bytea;
  v_is_future boolean := coalesce(p_scheduled_at > v_now, false);
  v_is_end_user boolean;
  v_is_metered boolean := false;
  v_is_awaited boolean;
  v_is_first boolean := false;
begin
  if cardinality(p_depends_on) > 0 then
    return query select made.id, made.outcome from queue.enqueue_many(jsonb_build_array(jsonb_build_object(
      'type', p_type, 'payload', v_payload, 'priority', p_priority, 'scheduled_at', p_scheduled_at,
      'tenant_id', p_tenant_id, 'queue', p_queue, 'max_retries', p_max_retries, 'depends_on', p_depends_on,
      'idempotency_key', p_idempotency_key, 'options', p_options
    ))) as made;
    return;
  end if;

  v_is_end_user := queue.is_end_user();
  if v_is_end_user then
    p_tenant_id := queue.authorize_enqueue(p_type, p_tenant_id);
    if p_queue is distinct from p_type and p_queue is not null then
      raise exception 'not allowed to choose a queue' using errcode = '42501', hint = 'Leave p_queue out.';
    end if;
  end if;
  select type.id, line.id, coalesce(tenant.id, 0), coalesce(p_max_retries, type.max_retries), line.is_fifo,
    settings.max_payload_bytes,
    -- What is strictly first in, first out passes through the line.
    not line.is_fifo and not line.is_paused and exists (
      select from queue.bells as bell where bell.queue_id = line.id and bell.channel is not null
        and (bell.type_ids is null or type.id = any (bell.type_ids)))
  into v_type_id, v_queue_id, v_tenant_id, v_max_retries, v_is_fifo, v_limit, v_is_awaited
  from queue.types as type
  join queue.queues as line on line.name = coalesce(p_queue, p_type)
  join queue.type_queues as pair on pair.type_id = type.id and pair.queue_id = line.id
  left join queue.tenants as tenant on tenant.name = p_tenant_id
  cross join queue.settings
  where type.name = p_type;

  -- The calls that raise are made only when there is something to say: for one small job they would be a third of the work.
  if v_limit is null or v_rank is null or pg_column_size(v_payload) > v_limit or p_scheduled_at is not null
    or p_max_retries is not null or p_idempotency_key is not null
  then
    perform queue.check_job(
      v_payload, coalesce(p_priority, 'normal'), p_scheduled_at, p_max_retries, p_idempotency_key);
  end if;
  if p_options is not null then
    perform queue.check_options(p_options);
  end if;
  if (v_is_end_user or octet_length(v_payload::text) > 8 * pg_column_size(v_payload) + 4096) and queue.is_bloated(v_payload) then
    perform queue.refuse_bloated(null);
  end if;
  if v_type_id is null or (v_tenant_id = 0 and p_tenant_id is not null) then
    select made.o_type_id, made.o_queue_id, made.o_tenant_id, coalesce(p_max_retries, made.o_max_retries), made.o_is_fifo
    into v_type_id, v_queue_id, v_tenant_id, v_max_retries, v_is_fifo
    from queue.intern_names(p_type, p_queue, p_tenant_id) as made;
    v_is_first := v_limit is null and v_type_id is not null;
  end if;

  if v_is_end_user then
    v_is_metered := queue.hold_quota(p_tenant_id, 1);
  end if;
  -- Reset by a crash or a promotion; for the rest of what ensure_generation looks at ids of jobs need not move on.
  if pg_sequence_last_value('queue.generation_mark') is null then
    perform queue.ensure_generation();
  end if;
  v_id := nextval('queue.job_ids');
  if p_idempotency_key is not null then
    v_scope := queue.key_scope(p_tenant_id, p_type, v_is_end_user);
    insert into queue.idempotency_keys (scope, key, job_id) values (v_scope, p_idempotency_key, v_id)
    on conflict do nothing;
    if not found then
      v_known := queue.resolve_key(v_scope, p_idempotency_key, v_id);
      if v_known <> v_id then
        if p_options ->> 'on_key_conflict' is distinct from 'return' and queue.payload_of(v_known) <> v_payload then
          perform queue.refuse_key(p_idempotency_key, v_known, null);
        end if;
        id := v_known;
        outcome := 'existing';
        return next;
        return;
      end if;
    end if;
  end if;
  if v_is_metered then
    perform queue.charge_quota(p_tenant_id, array[v_id]);
  end if;
  if v_type_id is null then
    perform queue.arrive_one(v_id, v_now, p_type, coalesce(p_queue, p_type), p_tenant_id, v_rank, p_scheduled_at, p_max_retries,
      v_payload, p_options);
    id := v_id;
    outcome := 'created';
    return next;
    return;
  end if;

  insert into queue.jobs (
    id, created_at, scheduled_at, type_id, queue_id, tenant_id, born, max_retries, priority, payload, options
  ) values (
    v_id, v_now, p_scheduled_at, v_type_id, v_queue_id, v_tenant_id,
    case when v_is_future then 'scheduled' else 'pending' end::queue.job_status,
    v_max_retries, v_rank, v_payload, p_options
  );
  if v_is_future then
    insert into queue.scheduled (id, at, queue_id, lane, type_id, priority)
    values (v_id, p_scheduled_at, v_queue_id, case when v_is_fifo then 0 else v_tenant_id end, v_type_id, v_rank);
  elsif v_is_awaited is not true or not queue.offer(
    v_id, v_now, v_type_id, v_queue_id, coalesce(p_priority, 'normal'), v_max_retries::smallint, v_payload, p_type,
    coalesce(p_queue, p_type), p_tenant_id, p_scheduled_at, p_options)
  then
    insert into queue.ready (id, at, queue_id, lane, type_id, priority)
    values (v_id, v_now, v_queue_id, case when v_is_fifo then 0 else v_tenant_id end, v_type_id, v_rank);
    if v_is_first then
      perform queue.ring_for_names(array[p_type], array[coalesce(p_queue, p_type)], 1);
    end if;
    if exists (select from queue.bells as bell where bell.queue_id = v_queue_id)
      or exists (select from queue.bells as bell where bell.queue_id = 0)
    then
      perform queue.ring(v_queue_id, 1, array[v_type_id]);
    end if;
  end if;
  id := v_id;
  outcome := 'created';
  return next;
end;
$$;
comment on function queue.enqueue_one is
  'Enqueues one job in the caller''s transaction; outcome is created, or existing when the idempotency key was known.';
