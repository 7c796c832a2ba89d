-- The bulk enqueue itself; its rules and locks are told in the migration before.
-- Custom plans throughout: a generic plan takes an array of 100,000 for one of ten and joins it in a nested loop.

-- Parents' tokens are locked so that they can't be claimed before the caller commits. A parent that holds no token
-- and has not ended is processing (or on its way there): its edge is marked as racing and the sweep looks again.
create function queue.weigh_edges(p_children bigint[], p_parents bigint[], p_run_anyway boolean[], p_own bigint[])
returns table (child_id bigint, parent_id bigint, run_anyway boolean, is_racing boolean, verdict text)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_column
declare
  v_outside bigint[] := array(
    select given.id from unnest(p_parents) as given (id) except select own.id from unnest(p_own) as own (id)
  );
  v_locked bigint[];
begin
  with held as (
    select token.id from (
      select waiting.id from queue.waiting where waiting.id = any (v_outside) order by waiting.id for key share
    ) as token
    union all
    select token.id from (
      select scheduled.id from queue.scheduled where scheduled.id = any (v_outside) order by scheduled.id for key share
    ) as token
    union all
    select token.id from (
      select ready.id from queue.ready where ready.id = any (v_outside) order by ready.id for key share
    ) as token
  )
  select array_agg(held.id) into v_locked from held;

  return query
  with parent as (
    select outside.id, locked.id is not null as is_locked, (
      select run.to_status from queue.runs as run
      where run.job_id = outside.id order by run.lease_id desc limit 1
    ) as last_status
    from unnest(v_outside) as outside (id)
    left join unnest(v_locked) as locked (id) on locked.id = outside.id
  )
  select edge.child_id, edge.parent_id, edge.run_anyway,
    coalesce(not parent.is_locked, false),
    case
      when parent.id is null or parent.is_locked then 'wait'
      when parent.last_status = 'completed' then 'done'
      when parent.last_status in ('failed', 'cancelled') then case when edge.run_anyway then 'done' else 'doomed' end
      else 'wait'
    end
  from unnest(p_children, p_parents, p_run_anyway) as edge (child_id, parent_id, run_anyway)
  left join parent on parent.id = edge.parent_id;
end;
$$;
comment on function queue.weigh_edges is
  'For each edge: wait (the parent is open), done (it ended well enough) or doomed (the child must be cancelled). Locks open parents.';

create function queue.write_jobs(
  p_jobs queue.job_input[], p_ids bigint[], p_is_new boolean[], p_created timestamptz[],
  p_children bigint[], p_parents bigint[], p_run_anyway boolean[], p_is_racing boolean[], p_verdicts text[]
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
  v_doomed bigint[];
  v_causes bigint[];
begin
  with edge as (
    select edge.* from unnest(p_children, p_parents, p_run_anyway, p_is_racing, p_verdicts)
      as edge (child_id, parent_id, run_anyway, is_racing, verdict)
  ),
  input as materialized (
    select
      made.id, item.scheduled_at, type.id as type_id, line.id as queue_id, coalesce(tenant.id, 0) as tenant_id,
      case when line.is_fifo then 0 else coalesce(tenant.id, 0) end as lane,
      coalesce(item.max_retries, type.max_retries) as max_retries,
      array_position(array['critical', 'high', 'normal', 'low'], item.priority) - 1 as priority, item.payload, item.options,
      coalesce(item.scheduled_at > v_now, false) as is_future,
      coalesce(p_created[item.ordinal], v_now) as created_at, gate.open_parents, gate.parents
    from unnest(p_jobs) as item
    join unnest(p_ids, p_is_new) with ordinality as made (id, is_new, ordinal) on made.ordinal = item.ordinal
    join queue.types as type on type.name = item.type
    join queue.queues as line on line.name = item.queue
    left join queue.tenants as tenant on tenant.name = item.tenant_id
    left join (
      select edge.child_id, count(*) filter (where edge.verdict <> 'done') as open_parents,
        array_agg(edge.parent_id order by edge.parent_id) as parents
      from edge group by edge.child_id
    ) as gate on gate.child_id = made.id
    where made.is_new
    order by made.id
  ),
  facts as (
    insert into queue.jobs (
      id, created_at, scheduled_at, type_id, queue_id, tenant_id, born, max_retries, priority, payload,
      depends_on, options
    )
    select
      input.id, input.created_at, input.scheduled_at, input.type_id, input.queue_id, input.tenant_id,
      case
        when input.open_parents > 0 then 'blocked'
        when input.is_future then 'scheduled'
        else 'pending'
      end::queue.job_status,
      input.max_retries, input.priority, input.payload, input.parents, input.options
    from input
  ),
  blocked as (
    insert into queue.waiting (id, at, queue_id, lane, type_id, priority, open_parents, first_parent)
    select input.id, coalesce(input.scheduled_at, input.created_at), input.queue_id, input.lane, input.type_id,
      input.priority, input.open_parents, input.parents[1]
    from input where input.open_parents > 0
  ),
  edges as (
    insert into queue.dependencies (parent_id, child_id, run_anyway, is_racing)
    select edge.parent_id, edge.child_id, edge.run_anyway, edge.is_racing
    from edge where edge.verdict = 'wait'
  ),
  later as (
    insert into queue.scheduled (id, at, queue_id, lane, type_id, priority)
    select input.id, input.scheduled_at, input.queue_id, input.lane, input.type_id, input.priority
    from input where input.is_future and coalesce(input.open_parents, 0) = 0
  ),
  now_ready as (
    insert into queue.ready (id, at, queue_id, lane, type_id, priority)
    select input.id, input.created_at, input.queue_id, input.lane, input.type_id, input.priority
    from input where not input.is_future and coalesce(input.open_parents, 0) = 0
    returning queue_id
  )
  select array_agg(doomed.child_id), array_agg(doomed.cause_id) into v_doomed, v_causes
  from (
    select edge.child_id, min(edge.parent_id) as cause_id from edge where edge.verdict = 'doomed' group by edge.child_id
  ) as doomed;

  if v_doomed is not null then
    perform queue.cancel_blocked(v_doomed, v_causes, 'a parent had failed or was cancelled before this job was enqueued');
  end if;

  perform queue.ring(line.id, line.n::integer, line.types) from (
    select queue.id, count(*) as n, array_agg(distinct type.id) as types from unnest(p_jobs) as item
    join queue.queues as queue on queue.name = item.queue
    join queue.types as type on type.name = item.type
    where item.scheduled_at is null or item.scheduled_at <= v_now
    group by queue.id
  ) as line;
end;
$$;
comment on function queue.write_jobs is
  'Writes facts, tokens and edges of the new ones of these jobs, whose names are there, and wakes workers. p_created null: they are enqueued now.';

create function queue.enqueue_many(p_jobs jsonb)
returns table (ordinal integer, id bigint, outcome text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_jobs queue.job_input[] := queue.parse_jobs(p_jobs);
  v_is_end_user boolean := queue.is_end_user();
  v_user_tenant_id text;
  v_is_metered boolean := false;
  v_ids bigint[];
  v_is_new boolean[];
  v_children bigint[];
  v_parents bigint[];
  v_run_anyway boolean[];
  v_is_racing boolean[];
  v_verdicts text[];
  v_has_names boolean;
begin
  if v_jobs is null then
    return;
  end if;
  if v_is_end_user then
    if exists (select from unnest(v_jobs) as item where item.queue <> item.type) then
      raise exception 'not allowed to choose a queue' using errcode = '42501', hint = 'Leave queue out.';
    end if;
    select array_agg((
      item.ordinal, item.type, item.payload, item.priority, item.scheduled_at,
      queue.authorize_enqueue(item.type, item.tenant_id), item.type, item.max_retries, item.depends_on,
      item.idempotency_key, item.options, item.ref, item.depends_on_refs
    )::queue.job_input order by item.ordinal) into v_jobs
    from unnest(v_jobs) as item;
  end if;
  -- Many jobs of a service are believed: to look at each would cost a tenth of the whole.
  if v_is_end_user or cardinality(v_jobs) = 1 then
    perform queue.refuse_bloated(case when cardinality(v_jobs) > 1 then item.ordinal end)
    from unnest(v_jobs) as item where queue.is_bloated(item.payload) order by item.ordinal limit 1;
  end if;
  v_has_names := queue.check_jobs(v_jobs);
  if v_is_end_user then
    v_user_tenant_id := queue.caller_tenant();
    v_is_metered := queue.hold_quota(v_user_tenant_id, cardinality(v_jobs));
  end if;
  perform queue.ensure_generation();
  v_ids := array(select nextval('queue.job_ids') from generate_series(1, cardinality(v_jobs)));
  v_is_new := array_fill(true, array[cardinality(v_jobs)]);

  if exists (select from unnest(v_jobs) as item where item.idempotency_key is not null) then
    select taken.o_ids, taken.o_is_new into v_ids, v_is_new
    from queue.take_keys(v_jobs, v_ids, v_is_end_user) as taken;
  end if;
  if v_is_metered then
    perform queue.charge_quota(v_user_tenant_id, array(
      select fresh.id from unnest(v_ids, v_is_new) as fresh (id, is_new) where fresh.is_new));
  end if;

  if exists (
    select from unnest(v_jobs) as item
    where cardinality(item.depends_on) > 0 or cardinality(item.depends_on_refs) > 0 or item.ref is not null
  ) then
    select array_agg(edge.child_id), array_agg(edge.parent_id), array_agg(edge.run_anyway)
    into v_children, v_parents, v_run_anyway
    from queue.resolve_edges(
      -- An element that was enqueued before, or earlier in this call, brings no edges of its own.
      array(
        select (
          item.ordinal, item.type, item.payload, item.priority, item.scheduled_at, item.tenant_id, item.queue,
          item.max_retries, case when made.is_new then item.depends_on end, item.idempotency_key, item.options,
          item.ref, case when made.is_new then item.depends_on_refs end
        )::queue.job_input
        from unnest(v_jobs) as item
        join unnest(v_is_new) with ordinality as made (is_new, ordinal) on made.ordinal = item.ordinal
        order by item.ordinal
      ), v_ids, v_is_end_user) as edge;
    -- What depends on an arrival comes after it.
    v_has_names := v_has_names and not exists (select from queue.arrivals as parent where parent.id = any (v_parents));
    if v_has_names then
      select
        array_agg(edge.child_id), array_agg(edge.parent_id), array_agg(edge.run_anyway),
        array_agg(edge.is_racing), array_agg(edge.verdict)
      into v_children, v_parents, v_run_anyway, v_is_racing, v_verdicts
      from queue.weigh_edges(v_children, v_parents, v_run_anyway,
        array(select fresh.id from unnest(v_ids, v_is_new) as fresh (id, is_new) where fresh.is_new)) as edge;
    end if;
  end if;

  if v_has_names then
    perform queue.write_jobs(
      v_jobs, v_ids, v_is_new, null, v_children, v_parents, v_run_anyway, v_is_racing, v_verdicts);
  else
    perform queue.arrive_many(v_jobs, v_ids, v_is_new, v_children, v_parents);
  end if;

  return query
  select made.ordinal::integer, made.id, case when made.is_new then 'created' else 'existing' end
  from unnest(v_ids, v_is_new) with ordinality as made (id, is_new, ordinal)
  order by made.ordinal;
end;
$$;
comment on function queue.enqueue_many is
  'Enqueues all jobs of a JSON array, in the caller''s transaction; a row per element in its order. All or none.';
