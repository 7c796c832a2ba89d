-- Enqueue one job, in the caller's transaction.
--   (nothing) -> pending | scheduled | processing, where a worker waits for such a job
--   (nothing) -> an arrival, where another transaction is just making its type, queue or tenant
-- Jobs with parents take the way of enqueue_many, which is the same for one.
--
-- Locks: an end user's quota, then a new idempotency key's index entry, until the caller commits; bells with skip locked.

create function queue.check_options(p_options jsonb)
returns void
language plpgsql
immutable
set search_path = pg_temp
as $$
declare
  v_fault text;
begin
  if p_options is null then
    return;
  end if;
  if jsonb_typeof(p_options) <> 'object' then
    v_fault := 'they must be a JSON object';
  else
    select format('unknown option %s', quote_literal(given.key)) into v_fault
    from jsonb_object_keys(p_options) as given (key)
    where given.key not in ('backoff', 'timeout_ms', 'on_parent_failure', 'on_key_conflict')
    limit 1;
    v_fault := coalesce(v_fault, case
      when p_options ? 'timeout_ms' and not queue.is_integer(p_options -> 'timeout_ms', 1, 2147483647)
        then 'timeout_ms must be an integer of milliseconds from 1 to 2147483647'
      when p_options ? 'on_parent_failure' and coalesce(p_options ->> 'on_parent_failure', '') not in ('cancel', 'run')
        then 'on_parent_failure must be "cancel" or "run"'
      when p_options ? 'on_key_conflict' and coalesce(p_options ->> 'on_key_conflict', '') not in ('error', 'return')
        then 'on_key_conflict must be "error" or "return"'
      when p_options ? 'backoff' and jsonb_typeof(p_options -> 'backoff') <> 'object'
        then 'backoff must be an object of base_ms, cap_ms and jitter'
    end);
    if v_fault is null and p_options ? 'backoff' then
      select format('unknown option backoff.%s', given.key) into v_fault
      from jsonb_object_keys(p_options -> 'backoff') as given (key)
      where given.key not in ('base_ms', 'cap_ms', 'jitter')
      limit 1;
      v_fault := coalesce(v_fault, case
        when p_options -> 'backoff' ? 'base_ms' and not queue.is_integer(p_options #> '{backoff,base_ms}', 0, 86400000)
          then 'backoff.base_ms must be an integer from 0 to 86400000'
        when p_options -> 'backoff' ? 'cap_ms' and not queue.is_integer(p_options #> '{backoff,cap_ms}', 0, 2147483647)
          then 'backoff.cap_ms must be an integer from 0 to 2147483647'
        when p_options -> 'backoff' ? 'jitter' and not (
          jsonb_typeof(p_options #> '{backoff,jitter}') = 'number'
          and (p_options #>> '{backoff,jitter}')::numeric between 0 and 1
        ) then 'backoff.jitter must be a number from 0 to 1'
      end);
    end if;
  end if;
  if v_fault is not null then
    raise exception 'invalid options: %', v_fault
      using errcode = 'MR010', detail = left(p_options::text, 200),
        hint = 'Known options: backoff {base_ms, cap_ms, jitter}, timeout_ms, on_parent_failure, on_key_conflict.';
  end if;
end;
$$;
comment on function queue.check_options is 'Raises MR010 unless p_options is null or an object of known options.';

create function queue.is_integer(p_value jsonb, p_least numeric, p_most numeric)
returns boolean
language plpgsql
immutable
set search_path = pg_temp
as $$
begin
  return case when jsonb_typeof(p_value) = 'number'
    then (p_value #>> '{}')::numeric between p_least and p_most and (p_value #>> '{}')::numeric % 1 = 0
    else false
  end;
end;
$$;
comment on function queue.is_integer is 'True for a JSON number without fraction within these bounds.';

-- Every rule about a single job, with the error that says how to mend it.
create function queue.check_job(
  p_payload jsonb,
  p_priority text,
  p_scheduled_at timestamptz,
  p_max_retries integer,
  p_idempotency_key text
)
returns void
language plpgsql
stable
set search_path = pg_temp
as $$
declare
  v_limit integer;
  -- The empty path unpacks a payload that comes compressed from a table.
  v_bytes integer := pg_column_size(p_payload #> '{}');
begin
  if queue.priority_rank(p_priority) is null then
    raise exception 'unknown priority: %', quote_literal(left(p_priority, 80))
      using errcode = 'MR002', detail = 'A priority is one of critical, high, normal, low.',
        hint = 'Leave it out for normal.';
  end if;
  select settings.max_payload_bytes into v_limit from queue.settings;
  if v_bytes > v_limit then
    raise exception 'payload too large: % bytes', v_bytes
      using errcode = 'MR004', detail = format('The limit is %s bytes, measured as jsonb.', v_limit),
        hint = 'Store the data elsewhere and enqueue a reference, or raise queue.settings.max_payload_bytes.';
  end if;
  if not isfinite(p_scheduled_at) then
    raise exception 'invalid scheduled time: %', p_scheduled_at
      using errcode = 'MR005', detail = 'A job can''t be scheduled at an infinite time.', hint = 'Pass a finite time.';
  end if;
  if p_max_retries not between 0 and 10000 then
    raise exception 'invalid max_retries: %', p_max_retries
      using errcode = 'MR006', detail = 'It must be from 0 to 10000.',
        hint = '0 means a single attempt; the default of 3 means up to four.';
  end if;
  if char_length(p_idempotency_key) not between 1 and 255 then
    raise exception 'invalid idempotency key of % characters', char_length(p_idempotency_key)
      using errcode = 'MR009', detail = 'It must have 1 to 255 characters.',
        hint = 'Hash a longer key, or pass null for none.';
  end if;
end;
$$;
comment on function queue.check_job is 'Raises MR002, MR004, MR005, MR006 or MR009 for the first rule a job breaks.';

-- A full notification queue would fail the caller's commit, and a transaction that notified can't be prepared.
create function queue.may_notify()
returns boolean
language plpgsql
volatile
set search_path = pg_temp
as $$
begin
  return coalesce(current_setting('millrace.notify', true), '') <> 'off' and pg_notification_queue_usage() <= 0.5;
end;
$$;
comment on function queue.may_notify is
  'False when the setting millrace.notify is off, or the notification queue of the server is more than half full: then workers find jobs by looking.';

-- Bells that another transaction took and holds: it may be open for long, and its own ring come as late. So the worker is woken without
-- its bell. It answers by arming another one, and from then on this one does not count: see queue.pass_held_bells.
create function queue.ring_held(
  p_queue_id integer, p_count integer, p_wide_queue_id integer default null, p_type_ids integer[] default null
)
returns integer
language plpgsql
volatile
set search_path = pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_since timestamptz := queue.clock() - (select settings.worker_timeout from queue.settings);
  v_rung integer;
begin
  select count(pg_notify('millrace', 'h:' || held.worker_id)) into v_rung
  from (
    select distinct bell.worker_id from queue.bells as bell
    where bell.queue_id = p_queue_id
      and not exists (
        select from queue.passed_bells as passed
        where passed.queue_id = bell.queue_id and passed.worker_id = bell.worker_id and passed.number >= bell.number
      )
      and (p_wide_queue_id is null or bell.type_ids is null or exists (
        select from queue.type_queues as pair where pair.queue_id = p_wide_queue_id and pair.type_id = any (bell.type_ids)
      ))
      and (p_type_ids is null or bell.type_ids is null or bell.type_ids && p_type_ids)
      -- Who is gone would not answer.
      and exists (select from queue.workers as worker where worker.id = bell.worker_id and worker.seen_at > v_since)
    limit p_count
  ) as held;
  return v_rung;
end;
$$;
comment on function queue.ring_held is 'Wakes up to p_count workers whose bells on a queue are held by open transactions; with queue 0 those with one bell for all that run a type of p_wide_queue_id. Returns how many.';

-- p_type_ids: what the jobs are of. In a queue of several types a worker that runs none of them would come in vain, and be the only one.
create function queue.ring(p_queue_id integer, p_count integer, p_type_ids integer[] default null)
returns void
language plpgsql
volatile
set search_path = pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_worker_id integer;
  v_count integer := 0;
begin
  if not queue.may_notify() then
    null; -- they look by themselves, a little later
  elsif current_setting('transaction_isolation') <> 'read committed' then
    -- A bell that was taken since this snapshot would be an error. Left where it is, it rings once too often at worst.
    perform pg_notify('millrace', 'w:' || bell.worker_id)
    from (
      select worker_id from queue.bells
      where queue_id = p_queue_id and (p_type_ids is null or type_ids is null or type_ids && p_type_ids)
      limit least(p_count, 16)
    ) as bell;
    v_count := found::integer;
  else
    for v_worker_id in
      delete from queue.bells
      where ctid = any (array(
        select bell.ctid from queue.bells as bell
        where bell.queue_id = p_queue_id and (p_type_ids is null or bell.type_ids is null or bell.type_ids && p_type_ids)
        limit least(p_count, 16)
        for update skip locked
      ))
      returning worker_id
    loop
      perform pg_notify('millrace', 'w:' || v_worker_id);
      v_count := v_count + 1;
    end loop;
    if v_count < least(p_count, 16) then
      v_count := v_count + queue.ring_held(p_queue_id, least(p_count, 16) - v_count, null, p_type_ids);
    end if;
  end if;
  -- Where a worker sleeps that was woken just now, the Edge worker is left alone.
  if v_count = 0 and exists (select from queue.bells as bell where bell.queue_id = 0) then
    perform queue.ring_edge(p_queue_id);
  end if;
end;
$$;
comment on function queue.ring is
  'Wakes up to p_count sleeping workers of a queue that run one of these types (null: any) at commit, or where none sleeps the Edge worker, if its bell is armed. NOTIFY takes a global lock, so it is sent only when somebody sleeps.';

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
set search_path = pg_temp
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
  if v_type_id is null or (v_tenant_id = 0 and p_tenant_id is not null) then
    select made.o_type_id, made.o_queue_id, made.o_tenant_id, coalesce(p_max_retries, made.o_max_retries), made.o_is_fifo
    into v_type_id, v_queue_id, v_tenant_id, v_max_retries, v_is_fifo
    from queue.intern_names(p_type, p_queue, p_tenant_id) as made;
    v_is_first := v_limit is null and v_type_id is not null;
  end if;

  if v_is_end_user then
    v_is_metered := queue.hold_quota(p_tenant_id);
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
