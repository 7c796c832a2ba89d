-- The fair claim: lanes (tenants) take turns.
--   pending -> processing
--
-- Locks: tokens of ready with skip locked.

-- One turn for each lane, from those after one round to that one: a step of a loose index scan reads and locks the next p_turn tokens after the
-- lane served last. Where they reach into several lanes, the last of these may be cut short: the next step begins with it. Another
-- claim that is at the same lanes gets what comes next in them. The jobs of a long turn run in short ones, p_step of each lane at a time.
-- A lane that weighs more than one (p_heavy, p_weights) is a stretch of its own, whose turn is as many times as long.
create function queue.take_turns(
  p_queue_id integer, p_priority smallint, p_after integer, p_type_ids integer[],
  p_turn integer, p_step integer, p_limit integer, p_heavy integer[], p_weights integer[],
  out o_ids bigint[], out o_attempts smallint[], out o_crashes smallint[], out o_last_lane integer, out o_last_count integer
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
declare
  -- Beside heavy lanes: stretches, each from a lane (without it) to another, with the turn of its lanes.
  v_from integer[];
  v_to integer[];
  v_turns integer[];
  v_lanes integer[];
begin
  if p_heavy is not null then
    select array_agg(part.first order by point.is_second, point.lane, part.is_heavy),
      array_agg(part.last order by point.is_second, point.lane, part.is_heavy),
      array_agg(part.turn order by point.is_second, point.lane, part.is_heavy)
    into v_from, v_to, v_turns
    from (
      select mark.*, coalesce(
        lag(mark.lane) over (partition by mark.is_second order by mark.lane), case when mark.is_second then -1 else p_after end
      ) as before
      from (
        select heavy.lane <= p_after as is_second, heavy.lane::bigint as lane, heavy.weight
        from unnest(p_heavy, p_weights) as heavy (lane, weight)
        union all select false, 2147483648, null
        union all select true, p_after + 1::bigint, null
      ) as mark
    ) as point
    cross join lateral (
      select false as is_heavy, point.before::integer as first, (point.lane - 1)::integer as last, p_turn as turn
      union all
      select true, (point.lane - 1)::integer, point.lane::integer, least(p_turn * point.weight::bigint, p_limit)::integer
      where point.weight is not null
    ) as part;
  end if;
  with recursive turn as (
    -- Two stretches otherwise: the lanes after p_after, then those up to it.
    select 0 as n, 1 as stretch, p_after as lane, null::tid[] as tokens
    union all
    select turn.n + served.n,
      turn.stretch + served.is_end::integer,
      case when not served.is_end then next.lanes[served.n] when p_heavy is null then -1 else v_from[turn.stretch + 1] end,
      next.tokens[:served.n]
    from turn
    cross join lateral (
      select count(*)::integer as n, array_agg(head.lane) as lanes, array_agg(head.ctid) as tokens
      from (
        select token.ctid, token.lane from queue.ready as token
        where token.queue_id = p_queue_id and token.priority = p_priority
          and token.lane > turn.lane and token.lane <= case
            when p_heavy is not null then v_to[turn.stretch] when turn.stretch = 1 then 2147483647 else p_after end
          and token.crashes < 2
          and (p_type_ids is null or token.type_id = any (p_type_ids))
        order by token.lane, token.at, token.id
        limit least(case when p_heavy is null then p_turn else v_turns[turn.stretch] end, p_limit - turn.n)
        for update skip locked
      ) as head
    ) as next
    cross join lateral (
      -- The turn of a stretch of one lane is over at once.
      select case when p_heavy is null then next.n < least(p_turn, p_limit - turn.n)
          else next.n < least(v_turns[turn.stretch], p_limit - turn.n) or next.lanes[1] = v_to[turn.stretch] end as is_end,
        case
          when next.n = case when p_heavy is null then p_turn else v_turns[turn.stretch] end and turn.n + next.n < p_limit and next.lanes[1] < next.lanes[next.n]
            then array_position(next.lanes, next.lanes[next.n]) - 1
          else next.n
        end as n
    ) as served
    where turn.n < p_limit and turn.stretch <= coalesce(cardinality(v_to), 2)
  ),
  taken as (
    delete from queue.ready
    where ctid = any (array(select unnest(turn.tokens) from turn))
    returning id, lane, at, attempt, crashes
  )
  select array_agg(job.id), array_agg(job.attempt), array_agg(job.crashes),
    coalesce(max(job.lane) filter (where job.is_second), max(job.lane)),
    array_agg(job.lane) filter (where p_heavy is not null)
  into o_ids, o_attempts, o_crashes, o_last_lane, v_lanes
  from (
    select taken.id, taken.lane, (taken.attempt + 1)::smallint as attempt, taken.crashes, taken.lane <= p_after as is_second
    from taken
    order by (row_number() over (partition by taken.lane order by taken.at, taken.id) - 1) / p_step,
      taken.lane <= p_after, taken.lane, taken.at, taken.id
  ) as job;
  if p_heavy is not null then
    o_last_count := cardinality(array_positions(v_lanes, o_last_lane));
  end if;
end;
$$;
comment on function queue.take_turns is
  'Deletes the oldest tokens of all lanes, from those after one, at most p_turn of each (of heavy ones as many times as they weigh) and p_limit in all; returns them as parallel arrays, and the lane served last; beside heavy lanes also how many tokens of it.';

-- Round and round, from the cursor on, each lane has its turn; what is left when all had one they share. A turn is one job, and up to eight in
-- a large claim: finding the lane costs as much as several jobs of it. Large claims are those of short jobs, so that a round stays
-- short. Where a round is less than such a claim, the next, which knows how many lanes there were, has turns that fill it in one.
create function queue.take_fair(
  p_queue_id integer, p_priority smallint, p_after_lane integer, p_lanes integer, p_type_ids integer[], p_limit integer,
  out o_ids bigint[], out o_attempts smallint[], out o_crashes smallint[], out o_last_lane integer, out o_lanes integer
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_start integer;
  v_part record;
  v_step integer := least(greatest(p_limit / 62, 1), 8);
  v_turn integer := case when v_step > 1 then greatest(p_limit / (p_lanes + 1), v_step) else 1 end;
  v_served integer;
  v_rest integer := p_limit;
  v_heavy integer[];
  v_weights integer[];
begin
  if exists (select from queue.tenants as tenant where tenant.weight <> 1) then
    select array_agg(heavy.id order by heavy.id), array_agg(heavy.weight::integer order by heavy.id)
    into v_heavy, v_weights
    from (
      select tenant.id, tenant.weight from queue.tenants as tenant where tenant.weight <> 1 order by tenant.id limit 65
    ) as heavy;
  end if;
  -- Where most weigh more than others they are looked at one by one; and a small claim without a cursor has to draw lots.
  if cardinality(v_heavy) > 64 or (p_after_lane is null and p_limit < 16) then
    select * into o_ids, o_attempts, o_crashes, o_last_lane
    from queue.take_by_weight(p_queue_id, p_priority, p_after_lane, p_type_ids, p_limit);
    return;
  end if;
  v_start := coalesce(p_after_lane, queue.any_lane(p_queue_id, p_priority));
  loop
    v_part := queue.take_turns(p_queue_id, p_priority, v_start, p_type_ids, v_turn, v_step, v_rest, v_heavy, v_weights);
    exit when v_part.o_ids is null;
    o_ids := o_ids || v_part.o_ids;
    o_attempts := o_attempts || v_part.o_attempts;
    o_crashes := o_crashes || v_part.o_crashes;
    o_last_lane := v_part.o_last_lane;
    v_served := cardinality(v_part.o_ids);
    v_rest := v_rest - v_served;
    exit when v_rest = 0;
    -- All had their turn. In a large claim the beginning of another round may fill it.
    o_lanes := ceil(v_served / v_turn::double precision);
    if v_step = 1 or v_rest > v_served / 2 then
      v_turn := greatest(ceil(v_rest / o_lanes::double precision), v_step);
    end if;
  end loop;
  -- The limit cut a heavy lane short: mostly it stays next in turn, so that it gets its weight from small claims too.
  if v_heavy is not null and v_rest = 0 and random() < 1 - v_part.o_last_count
    / (v_turn * v_weights[array_position(v_heavy, o_last_lane)])::double precision
  then
    o_last_lane := o_last_lane - 1;
  end if;
end;
$$;
comment on function queue.take_fair is
  'Deletes up to p_limit tokens of one queue and priority, lanes in turn; returns them as parallel arrays, the last lane served, and where all were served how many there were.';
