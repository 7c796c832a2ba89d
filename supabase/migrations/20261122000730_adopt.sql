-- Adopts arrivals: jobs that came while another transaction was making their names become jobs like all others, under their ids.
--   an arrival -> pending | scheduled | blocked, and then cancelled when somebody cancelled it meanwhile
--
-- Locks: arrivals in id order, with skip locked; then what enqueue_many locks, but of parents' tokens only those that nobody holds: who
-- adopts is about to claim, and must not wait for strangers. A name is waited for 5 ms (queue.intern_names).

create function queue.arrivals_with_names(p_limit integer)
returns setof bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select arrival.id
  from queue.arrivals as arrival
  join queue.types as type on type.name = arrival.type
  join queue.queues as line on line.name = arrival.queue
  left join queue.tenants as tenant on tenant.name = arrival.tenant_id
  where arrival.tenant_id is null or tenant.id is not null
  order by arrival.id
  limit p_limit;
$$;
comment on function queue.arrivals_with_names is 'Arrivals whose names are all there, oldest first.';

-- When somebody last tried to make names that another had begun to make. A sequence and no row: who tries may be in a transaction that
-- stays open, and keeps nobody else from trying.
create unlogged sequence queue.names_mark as bigint;
comment on sequence queue.names_mark is 'Milliseconds since 1970 when names of arrivals were last made by somebody who adopts.';

create unlogged sequence queue.arrivals_mark as bigint;
comment on sequence queue.arrivals_mark is
  'When somebody last looked through very many arrivals that can''t be adopted yet, in milliseconds since 1970: for half a second nobody looks again.';

create function queue.note_arrivals(p_now_ms bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from queue.arrivals offset 2000) then
    perform setval('queue.arrivals_mark', p_now_ms);
  end if;
end;
$$;
comment on function queue.note_arrivals is 'Remembers a look that left very many arrivals.';

-- Their children are adopted when whoever holds the parent is done with it.
create function queue.held_parents(p_ids bigint[])
returns bigint[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_free bigint[] := array(
    select token.id from (
      select waiting.id from queue.waiting where waiting.id = any (p_ids) order by waiting.id for key share skip locked
    ) as token
    union all
    select token.id from (
      select scheduled.id from queue.scheduled where scheduled.id = any (p_ids) order by scheduled.id for key share skip locked
    ) as token
    union all
    select token.id from (
      select ready.id from queue.ready where ready.id = any (p_ids) order by ready.id for key share skip locked
    ) as token
  );
begin
  return array(
    select given.id from unnest(p_ids) as given (id)
    where given.id <> all (v_free) and (
      exists (select from queue.waiting as token where token.id = given.id)
      or exists (select from queue.scheduled as token where token.id = given.id)
      or exists (select from queue.ready as token where token.id = given.id)
    )
  );
end;
$$;
comment on function queue.held_parents is 'Those of these open jobs whose tokens somebody else holds; the tokens of the others are locked.';

create function queue.adopt_batch()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '5ms'
set jit = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_now_ms bigint := queue.epoch_ms(queue.clock());
  v_names record;
  v_ids bigint[];
  v_held bigint[];
  v_jobs queue.job_input[];
  v_created timestamptz[];
  v_children bigint[];
  v_parents bigint[];
  v_run_anyway boolean[];
  v_is_racing boolean[];
  v_verdicts text[];
  v_cancelled record;
begin
  if pg_sequence_last_value('queue.arrivals_mark') between v_now_ms - 499 and v_now_ms then
    return 0;
  end if;
  -- Whoever was making a name may have rolled back: then it is for us to make. Some at a time and in an order by lot, so that names that
  -- are still held don't stand before others for ever.
  -- A time in the future was written before the clock was set back.
  if (pg_sequence_last_value('queue.names_mark') between v_now_ms - 149 and v_now_ms) is not true then
    perform setval('queue.names_mark', v_now_ms);
    for v_names in
      select lost.type, lost.queue, lost.tenant_id
      from (
        select arrival.type, arrival.queue, arrival.tenant_id from queue.arrivals as arrival
        where arrival.id not in (select named.id from queue.arrivals_with_names(100000) as named (id))
        group by arrival.type, arrival.queue, arrival.tenant_id
      ) as lost
      order by random() limit 8
    loop
      perform queue.intern_names(v_names.type, v_names.queue, v_names.tenant_id);
    end loop;
  end if;

  v_ids := array(
    select arrival.id from queue.arrivals as arrival
    where arrival.id in (select named.id from queue.arrivals_with_names(1000) as named (id))
    order by arrival.id
    for update skip locked
  );
  for v_names in
    select distinct arrival.type, arrival.queue from queue.arrivals as arrival
    where arrival.id = any (v_ids) and not exists (
      select from queue.type_queues as pair
      where pair.type_id = (select type.id from queue.types as type where type.name = arrival.type)
        and pair.queue_id = (select line.id from queue.queues as line where line.name = arrival.queue)
    )
  loop
    if (select made.o_type_id is null from queue.intern_names(v_names.type, v_names.queue, null) as made) then
      v_ids := array(
        select arrival.id from queue.arrivals as arrival
        where arrival.id = any (v_ids) and (arrival.type, arrival.queue) <> (v_names.type, v_names.queue) order by arrival.id);
    end if;
  end loop;
  v_held := array(
    select distinct parent.id
    from queue.arrivals as child, unnest(child.depends_on) as parent (id)
    where child.id = any (v_ids) and parent.id <> all (v_ids)
  );
  if cardinality(v_held) > 0 then
    v_held := queue.held_parents(v_held);
    v_ids := array(
      select child.id from queue.arrivals as child
      where child.id = any (v_ids) and (child.depends_on && v_held) is not true order by child.id);
  end if;
  -- A parent that has not arrived yet keeps its children, and theirs.
  loop
    v_held := array(
      select child.id from queue.arrivals as child
      where child.id = any (v_ids) and exists (
        select from queue.arrivals as parent where parent.id = any (child.depends_on) and parent.id <> all (v_ids)
      )
    );
    exit when cardinality(v_held) = 0;
    v_ids := array(select own.id from unnest(v_ids) as own (id) where own.id <> all (v_held) order by own.id);
  end loop;
  if cardinality(v_ids) = 0 then
    perform queue.note_arrivals(v_now_ms);
    return 0;
  end if;

  select array_agg((
      item.position, item.type, item.payload, queue.priority_name(item.priority), item.scheduled_at, item.tenant_id, item.queue,
      item.max_retries, item.depends_on, null, item.options, null, null
    )::queue.job_input order by item.position), array_agg(item.created_at order by item.position)
  into v_jobs, v_created
  from (
    select arrival.*, row_number() over (order by arrival.id) as position from queue.arrivals as arrival where arrival.id = any (v_ids)
  ) as item;
  select array_agg(v_ids[child.ordinal]), array_agg(named.id), array_agg(coalesce(child.options ->> 'on_parent_failure' = 'run', false))
  into v_children, v_parents, v_run_anyway
  from unnest(v_jobs) as child, unnest(child.depends_on) as named (id);
  if v_children is not null then
    select array_agg(edge.child_id), array_agg(edge.parent_id), array_agg(edge.run_anyway),
      array_agg(edge.is_racing), array_agg(edge.verdict)
    into v_children, v_parents, v_run_anyway, v_is_racing, v_verdicts
    from queue.weigh_edges(v_children, v_parents, v_run_anyway, v_ids) as edge;
  end if;
  perform queue.write_jobs(
    v_jobs, v_ids, array_fill(true, array[cardinality(v_ids)]), v_created,
    v_children, v_parents, v_run_anyway, v_is_racing, v_verdicts);
  perform queue.end_detours();

  perform queue.ring_for_names(
    array(select distinct item.type from unnest(v_jobs) as item), array(select distinct item.queue from unnest(v_jobs) as item),
    cardinality(v_ids));
  for v_cancelled in
    delete from queue.arrivals as arrival where arrival.id = any (v_ids)
    returning arrival.id, arrival.cancelled_at, arrival.cancelled_by, arrival.cancel_reason
  loop
    continue when v_cancelled.cancelled_at is null;
    insert into queue.runs (
      job_id, lease_id, started_at, finished_at, outcome, to_status, attempt, from_status, reason, actor
    )
    select v_cancelled.id, nextval('queue.lease_ids'), v_cancelled.cancelled_at, v_cancelled.cancelled_at, 'cancelled', 'cancelled',
      token.o_attempt, token.o_status, v_cancelled.cancel_reason, v_cancelled.cancelled_by
    from queue.pull_token(v_cancelled.id) as token where token.o_status is not null;
    if found then
      perform queue.after_end(array[v_cancelled.id], array['cancelled'::queue.job_status]);
    end if;
  end loop;
  if cardinality(v_ids) < 1000 then
    perform queue.note_arrivals(v_now_ms);
  end if;
  return cardinality(v_ids);
end;
$$;
comment on function queue.adopt_batch is 'Adopts up to 1000 arrivals whose names are there; returns how many.';

create function queue.adopt_arrivals()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return queue.adopt_batch();
exception
  when others then
    -- What goes wrong here is no reason for a claim to fail: the arrivals stay where they are.
    raise warning 'millrace: arrivals could not be adopted: %', sqlerrm;
    return 0;
end;
$$;
comment on function queue.adopt_arrivals is
  'Makes jobs of arrivals whose names are there, or can be made now; returns how many. Never raises. Ask first whether there is one.';
