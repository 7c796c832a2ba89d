-- A claim from tenants of different weights: each lane gives its share by weight.
--   pending -> processing
--
-- Locks: tokens of ready with skip locked.

-- From many lanes, where many have another weight than one, and for small claims without a cursor: a loose index scan finds a window of them after a cursor
-- (and around), each gives its share by weight, and what light lanes leave over goes to the heavy ones. The window is
-- wider than a small limit.
create function queue.take_by_weight(
  p_queue_id integer, p_priority smallint, p_after_lane integer, p_type_ids integer[], p_limit integer,
  out o_ids bigint[], out o_attempts smallint[], out o_crashes smallint[], out o_last_lane integer
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_has_turn boolean := p_after_lane is not null;
  v_window integer := greatest(p_limit, 16);
  v_lanes integer[];
  v_weights integer[];
  v_ids bigint[];
  v_attempts smallint[];
  v_crashes smallint[];
  v_last_count integer;
  v_rest integer := p_limit;
begin
  -- Without a cursor lots are drawn: the window begins anywhere, and its lanes are shuffled by weight, so that a gap
  -- between the numbers of two lanes favours neither.
  p_after_lane := coalesce(p_after_lane, queue.any_lane(p_queue_id, p_priority));
  v_lanes := queue.lanes(p_queue_id, p_priority, p_after_lane, 2147483647, p_type_ids, v_window);
  if cardinality(v_lanes) < v_window then
    v_lanes := v_lanes || queue.lanes(
      p_queue_id, p_priority, -1, p_after_lane, p_type_ids, v_window - cardinality(v_lanes));
  end if;
  select array_agg(lane.id order by lane.turn), array_agg(lane.weight order by lane.turn) into v_lanes, v_weights
  from (
    select given.id, coalesce(tenant.weight, 1)::integer as weight,
      case when v_has_turn then given.position else -ln(1 - random()) / coalesce(tenant.weight, 1) end as turn
    from unnest(v_lanes) with ordinality as given (id, position)
    left join queue.tenants as tenant on tenant.id = given.id
  ) as lane;

  while v_rest > 0 loop
    with share as (
      select lane.id, lane.position, greatest(
        -- A limit that does not reach round all lanes gives each in its turn as many as it weighs.
        case when v_has_turn and p_limit < cardinality(v_lanes) then lane.weight else 1 end,
        floor(v_rest * lane.weight::numeric / sum(lane.weight) over ())
      )::integer as quota
      from unnest(v_lanes, v_weights) with ordinality as lane (id, weight, position)
      order by lane.position
    ),
    taken as (
      delete from queue.ready
      where ctid = any (array(
        select head.ctid
        from (select share.id, share.quota from share order by share.position) as lane
        cross join lateral (
          select token.ctid from queue.ready as token
          where token.queue_id = p_queue_id and token.priority = p_priority and token.lane = lane.id
            and token.crashes < 2
            and (p_type_ids is null or token.type_id = any (p_type_ids))
          order by token.at, token.id
          limit lane.quota
          for update skip locked
        ) as head
        limit v_rest
      ))
      returning id, lane, at, attempt, crashes
    ),
    -- To be run in turns as well: the oldest of each lane first.
    job as (
      select taken.id, taken.lane, (taken.attempt + 1)::smallint as attempt, taken.crashes,
        array_position(v_lanes, taken.lane) as place,
        row_number() over (partition by taken.lane order by taken.at, taken.id)::integer as turn
      from taken
    )
    select array_agg(job.id order by job.turn, job.place), array_agg(job.attempt order by job.turn, job.place),
      array_agg(job.crashes order by job.turn, job.place), (array_agg(job.lane order by job.place desc))[1],
      (array_agg(job.turn order by job.place desc, job.turn desc))[1]
    into v_ids, v_attempts, v_crashes, o_last_lane, v_last_count
    from job;
    exit when v_ids is null;
    o_ids := o_ids || v_ids;
    o_attempts := o_attempts || v_attempts;
    o_crashes := o_crashes || v_crashes;
    v_rest := v_rest - cardinality(v_ids);
  end loop;
  o_last_lane := coalesce(o_last_lane, v_lanes[cardinality(v_lanes)]);
  -- The limit cut a heavy lane short: mostly it stays next in turn, so that it gets its weight from small claims too.
  if v_has_turn and p_limit < cardinality(v_lanes)
    and random() < 1 - v_last_count::double precision / v_weights[array_position(v_lanes, o_last_lane)]
  then
    o_last_lane := o_last_lane - 1;
  end if;
end;
$$;
comment on function queue.take_by_weight is
  'Deletes up to p_limit tokens of one queue and priority, lanes in turn by weight; returns them as parallel arrays and the last lane served.';

create function queue.lanes(
  p_queue_id integer, p_priority smallint, p_after integer, p_until integer, p_type_ids integer[], p_limit integer
)
returns integer[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return (
    with recursive found as (
      (
        select token.lane, 1 as n from queue.ready as token
        where token.queue_id = p_queue_id and token.priority = p_priority
          and token.lane > p_after and token.lane <= p_until and token.crashes < 2
          and (p_type_ids is null or token.type_id = any (p_type_ids))
        order by token.lane limit 1
      )
      union all
      select (
        select token.lane from queue.ready as token
        where token.queue_id = p_queue_id and token.priority = p_priority
          and token.lane > found.lane and token.lane <= p_until and token.crashes < 2
          and (p_type_ids is null or token.type_id = any (p_type_ids))
        order by token.lane limit 1
      ), found.n + 1
      from found where found.lane is not null and found.n < p_limit
    )
    select coalesce(array_agg(found.lane order by found.n), '{}') from found where found.lane is not null
  );
end;
$$;
comment on function queue.lanes is 'The lanes of a queue and priority that have work, after one and up to another, at most p_limit.';

create function queue.any_lane(p_queue_id integer, p_priority smallint)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return coalesce((
    select low.lane + floor(random() * (high.lane - low.lane + 1))::integer - 1
    from (
      select token.lane from queue.ready as token
      where token.queue_id = p_queue_id and token.priority = p_priority order by token.lane limit 1
    ) as low, (
      select token.lane from queue.ready as token
      where token.queue_id = p_queue_id and token.priority = p_priority order by token.lane desc limit 1
    ) as high
  ), -1);
end;
$$;
comment on function queue.any_lane is 'A number at random between the first and the last lane that have work.';
