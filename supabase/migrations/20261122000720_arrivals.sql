-- Jobs whose type, queue or tenant another open transaction is just making. Nobody waits for that transaction: the job gets its id and
-- is written down as it was given; when the names are there it is adopted, under that id, as if it had been enqueued just then.
--   (nothing) -> pending | scheduled | blocked, written as an arrival
--   an arrival -> cancelled, by cancel_job; one that is scheduled or cancelled -> pending, by retry_job
--
-- A key is taken and a quota is charged when the job arrives. The status of an arrival is where its token will stand.
--
-- Locks: cancel and retry lock the one arrival.

create table queue.arrivals (
  id bigint not null,
  created_at timestamptz not null,
  scheduled_at timestamptz,
  type text not null,
  queue text not null,
  tenant_id text,
  priority smallint not null,
  max_retries smallint,
  depends_on bigint[],
  cancelled_at timestamptz,
  cancelled_by text,
  cancel_reason text,
  options jsonb,
  payload jsonb not null,
  constraint arrivals_pkey primary key (id)
);
comment on table queue.arrivals is
  'Jobs that came while another transaction was making their type, queue or tenant. Empty most of the time: see queue.adopt_arrivals.';

-- Workers that have just been woken come back to sleep; a notification too many does no harm, and this is sent once for new names.
create function queue.ring_for_names(p_types text[], p_queues text[], p_count integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_since timestamptz := queue.clock() - (select settings.worker_timeout from queue.settings);
begin
  if not queue.may_notify() then
    return;
  end if;
  perform pg_notify('millrace', 'w:' || worker.id)
  from (
    select known.id from queue.workers as known
    where known.is_registered and known.seen_at > v_since and known.type_names && p_types
      and (known.queue_names is null or known.queue_names && p_queues)
      and not exists (
        select from queue.bells as bell join queue.queues as line on line.id = bell.queue_id
        where bell.worker_id = known.id and line.name = any (p_queues)
      )
    order by known.id desc
    limit least(p_count, 16)
  ) as worker;
end;
$$;
comment on function queue.ring_for_names is
  'Wakes up to p_count workers that serve one of these types and have no bell on these queues, because they are new.';

create function queue.arrive_one(
  p_id bigint, p_created_at timestamptz, p_type text, p_queue text, p_tenant_id text, p_priority smallint,
  p_scheduled_at timestamptz, p_max_retries integer, p_payload jsonb, p_options jsonb
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into queue.arrivals (
    id, created_at, scheduled_at, type, queue, tenant_id, priority, max_retries, options, payload
  ) values (
    p_id, p_created_at, p_scheduled_at, p_type, p_queue, p_tenant_id, p_priority, p_max_retries, p_options, p_payload
  );
  -- The other transaction may have ended by the time this one commits: then somebody has to look.
  perform queue.ring_for_names(array[p_type], array[p_queue], 1);
end;
$$;
comment on function queue.arrive_one is 'Writes one checked job as an arrival.';

create function queue.arrive_many(
  p_jobs queue.job_input[], p_ids bigint[], p_is_new boolean[], p_children bigint[], p_parents bigint[]
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_now timestamptz := queue.clock();
begin
  insert into queue.arrivals (
    id, created_at, scheduled_at, type, queue, tenant_id, priority, max_retries, depends_on, options, payload
  )
  select p_ids[item.ordinal], v_now, item.scheduled_at, item.type, item.queue, item.tenant_id,
    array_position(array['critical', 'high', 'normal', 'low'], item.priority) - 1, item.max_retries, gate.parents,
    item.options, item.payload
  from unnest(p_jobs) as item
  left join (
    select edge.child_id, array_agg(edge.parent_id order by edge.parent_id) as parents
    from unnest(p_children, p_parents) as edge (child_id, parent_id) group by edge.child_id
  ) as gate on gate.child_id = p_ids[item.ordinal]
  where p_is_new[item.ordinal]
  order by item.ordinal;
  perform queue.ring_for_names(
    array(select distinct item.type from unnest(p_jobs) as item), array(select distinct item.queue from unnest(p_jobs) as item), 1);
end;
$$;
comment on function queue.arrive_many is 'Writes the new ones of a call''s checked jobs as arrivals.';

create function queue.cancel_arrival(p_job_id bigint, p_reason text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update queue.arrivals as arrival
  set cancelled_at = queue.clock(), cancelled_by = queue.actor(), cancel_reason = left(p_reason, 8192)
  where arrival.id = p_job_id and arrival.cancelled_at is null;
  if not found then
    return false;
  end if;
  perform queue.note('cancelled', p_job_id, jsonb_build_object('to', 'cancelled', 'reason', p_reason));
  return true;
end;
$$;
comment on function queue.cancel_arrival is 'Cancels a job that has not been adopted yet; false when there is no such arrival.';

create function queue.revive_arrival(p_job_id bigint, p_reason text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update queue.arrivals as arrival
  set cancelled_at = null, cancelled_by = null, cancel_reason = null, scheduled_at = null
  where arrival.id = p_job_id and (
    arrival.cancelled_at is not null or (arrival.depends_on is null and arrival.scheduled_at > queue.clock()));
  if not found then
    return false;
  end if;
  perform queue.note('redriven', p_job_id, jsonb_build_object('to', 'pending', 'reason', p_reason));
  return true;
end;
$$;
comment on function queue.revive_arrival is 'Makes a cancelled or scheduled job that has not been adopted yet pending; false when there is no such arrival.';
