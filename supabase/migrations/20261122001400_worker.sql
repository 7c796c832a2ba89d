-- A long-lived worker signs in, tells that it lives, and signs out.
--   processing -> pending: what was offered to a worker that signs out, and not accepted
--
-- Locks: the worker's row; at the sign-out its bells with skip locked, then what settle locks.

create function queue.ids_of_names(p_queues text[], p_types text[], p_tenant_id text)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'queue_ids', (
      select coalesce(jsonb_agg(queue.try_name('queue', given.name) order by given.position), '[]')
      from unnest(p_queues) with ordinality as given (name, position)
      where given.name <> '*'
    ),
    'type_ids', (
      select coalesce(jsonb_agg(queue.try_name('type', given.name) order by given.position), '[]')
      from unnest(p_types) with ordinality as given (name, position)
    ),
    'tenant_id', case when p_tenant_id is not null then queue.try_name('tenant', p_tenant_id) end
  );
end;
$$;
comment on function queue.ids_of_names is
  'The ids of a worker''s queues, types and tenant, made where they are new; null for a name that an open transaction is making.';

create function queue.register_worker(
  p_name text, p_details jsonb, p_queues text[], p_types text[], p_tenant_id text default null
)
returns json
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
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
  return (jsonb_build_object('worker', v_id) || queue.ids_of_names(p_queues, p_types, p_tenant_id))::json;
end;
$$;
comment on function queue.register_worker is
  'Signs a worker in under a name that is new at each start; interns its queues and types, and the tenant if it serves one only, and returns their ids: null for a name that an open transaction is making, to be asked for again. Raises MR012 and MR013.';

create function queue.worker_names(p_queues text[], p_types text[], p_tenant_id text)
returns json
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from queue.arrivals) then
    perform queue.adopt_arrivals();
  end if;
  return queue.ids_of_names(p_queues, p_types, p_tenant_id)::json;
end;
$$;
comment on function queue.worker_names is 'The ids of a worker''s names, as register_worker returns them.';

create function queue.heartbeat_worker(p_worker integer, p_details jsonb default null)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
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

create function queue.unregister_worker(p_worker integer)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A call that is just arming its bells comes to its end first; one that comes later finds it signed out.
  perform from queue.workers as worker where worker.id = p_worker for update;
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
