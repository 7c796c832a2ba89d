-- The claim: pending -> processing.
--
-- Tokens are deleted "for update skip locked" in index order and one lease is inserted, so concurrent claimers never
-- get the same job and never wait for each other. Priority holds over all queues of a claim. Within a queue and
-- priority, lanes (tenants) take turns when more than one has work (see the next migration). Jobs that were lost more than once are left for
-- queue.take_suspect.
--
-- Locks: due tokens of scheduled, then tokens of ready, all with skip locked.
-- Plans are pinned (no sequential scan, no jit): statistics of queue tables are always wrong.

create function queue.promote_due()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := queue.clock();
  v_from timestamptz := timestamptz '-infinity';
  v_read bigint := pg_stat_get_xact_tuples_returned('queue.scheduled_due_idx'::regclass);
  v_count integer := 0;
  v_is_late boolean;
begin
  if pg_sequence_last_value('queue.due_mark') is not null then
    v_from := queue.look_from('queue.due_mark');
  end if;
  if exists (select from queue.scheduled as token where token.at > v_from and token.at <= v_now) then
    with due as (
      delete from queue.scheduled
      where ctid = any (array(
        select token.ctid from queue.scheduled as token
        where token.at > v_from and token.at <= v_now
        order by token.at, token.id
        limit 1000
        for update skip locked
      ))
      returning id, at, queue_id, lane, type_id, priority, attempt, crashes
    ),
    moved as (
      insert into queue.ready (id, at, queue_id, lane, type_id, priority, attempt, crashes)
      select due.id, due.at, due.queue_id, due.lane, due.type_id, due.priority, due.attempt, due.crashes from due
      returning at
    )
    select count(*), min(moved.at) < v_now - interval '1 second' into v_count, v_is_late from moved;
    if v_is_late then
      perform queue.end_detours();
    end if;
  end if;
  if v_from = '-infinity' and v_count < 1000
    and pg_stat_get_xact_tuples_returned('queue.scheduled_due_idx'::regclass) - v_read > 2000 + 10 * v_count
  then
    perform queue.note_look('queue.due_mark', v_now);
  end if;
  return v_count;
end;
$$;
comment on function queue.promote_due is 'scheduled -> pending for up to 1000 jobs whose time has come; returns how many.';

-- The queues a claim looks at: those named, or those that hold the types, or all with work; never a paused one.
create function queue.lines(p_queue_ids integer[], p_except integer[], p_type_ids integer[])
returns integer[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  if p_queue_ids is null and p_type_ids is not null then
    p_queue_ids := array(
      select distinct pair.queue_id from queue.type_queues as pair where pair.type_id = any (p_type_ids)
    );
  elsif p_queue_ids is null then
    p_queue_ids := array(
      with recursive line as (
        (select token.queue_id from queue.ready as token order by token.queue_id limit 1)
        union all
        select (
          select token.queue_id from queue.ready as token
          where token.queue_id > line.queue_id order by token.queue_id limit 1
        )
        from line where line.queue_id is not null
      )
      select line.queue_id from line where line.queue_id is not null
    );
  end if;
  return array(
    select line.id from queue.queues as line
    where line.id = any (p_queue_ids) and not line.is_paused and line.id <> all (coalesce(p_except, '{}'))
  );
end;
$$;
comment on function queue.lines is 'The ids of the queues a claim reads, without paused ones.';

-- Where types were ever held by many queues, those with work are found in ready: most of the others are empty.
create function queue.busy_lines(p_queue_ids integer[], p_except integer[], p_type_ids integer[])
returns integer[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  if p_queue_ids is not null or p_type_ids is null then
    return queue.lines(p_queue_ids, p_except, p_type_ids);
  end if;
  p_queue_ids := array(select pair.queue_id from queue.type_queues as pair where pair.type_id = any (p_type_ids) limit 33);
  if cardinality(p_queue_ids) > 32 then
    return array(
      select line.id from unnest(queue.lines(null, p_except, null)) as line (id)
      where exists (
        select from queue.type_queues as pair where pair.queue_id = line.id and pair.type_id = any (p_type_ids)
      )
    );
  end if;
  return array(
    select line.id from queue.queues as line
    where line.id = any (p_queue_ids) and not line.is_paused and line.id <> all (coalesce(p_except, '{}'))
  );
end;
$$;
comment on function queue.busy_lines is
  'The ids of the queues a claim reads, without paused ones; where the types have many queues, only those with pending jobs.';

-- A sweep passes every dead index entry that autovacuum has not come to yet: it is enough that one worker of many makes it.
create function queue.may_sweep(p_queue_ids integer[], p_except integer[], p_type_ids integer[])
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_scope bigint := hashtextextended(row(p_queue_ids, p_except, p_type_ids)::text, 0);
  v_now timestamptz := queue.clock();
begin
  if not exists (select from queue.sweeps as last where last.scope = v_scope) then
    insert into queue.sweeps (scope, at) values (v_scope, v_now) on conflict do nothing;
    return found;
  end if;
  update queue.sweeps set at = v_now
  where ctid = (
    select last.ctid from queue.sweeps as last
    where last.scope = v_scope
      -- A time in the future was written before the clock was set back.
      and (last.at <= v_now - interval '150 milliseconds' or last.at > v_now)
    for update skip locked
  );
  return found;
end;
$$;
comment on function queue.may_sweep is
  'True for the first of all who claim from these queues and types that asks within 150 ms: it claims from the start this time.';

-- From one lane, oldest first. p_from (time and id) skips the dead index entries of what was claimed before.
create function queue.take_lane(
  p_queue_id integer, p_priority smallint, p_lane integer, p_type_ids integer[], p_tenant_id integer,
  p_from_at timestamptz, p_from_id bigint, p_limit integer,
  out o_ids bigint[], out o_attempts smallint[], out o_crashes smallint[],
  out o_last_at timestamptz, out o_last_id bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  with taken as (
    delete from queue.ready
    where ctid = any (array(
      select token.ctid from queue.ready as token
      where token.queue_id = p_queue_id and token.priority = p_priority and token.lane = p_lane
        and (token.at, token.id) >= (p_from_at, p_from_id)
        and token.crashes < 2
        and (p_type_ids is null or token.type_id = any (p_type_ids))
        -- Not "exists": that could be hashed, which reads every job there is.
        and (p_tenant_id is null or p_tenant_id = (
          select job.tenant_id from queue.jobs as job where job.id = token.id
        ))
      order by token.at, token.id
      limit p_limit
      for update skip locked
    ))
    returning id, at, attempt, crashes
  )
  select array_agg(job.id), array_agg(job.attempt), array_agg(job.crashes), max(job.at)
  into o_ids, o_attempts, o_crashes, o_last_at
  from (
    select taken.id, (taken.attempt + 1)::smallint as attempt, taken.crashes, taken.at
    from taken order by taken.at, taken.id
  ) as job;
  o_last_id := o_ids[cardinality(o_ids)];
end;
$$;
comment on function queue.take_lane is
  'Deletes up to p_limit tokens of one queue, priority and lane, from a position on; returns them as parallel arrays, with the number of the attempt that begins.';
