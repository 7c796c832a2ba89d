-- From tokens to leases: the body shared by every way to claim.
--   pending -> processing
--
-- A job whose lease ran out before may have killed its worker: it gets a lease of its own. A job that was lost more than
-- once is also the only one of its kind that its worker holds, so that the next crash can be blamed on it alone.

create function queue.take_suspect(
  p_queue_id integer, p_priority smallint, p_lane integer, p_type_ids integer[], p_tenant_id integer,
  out o_id bigint, out o_attempt smallint, out o_crashes smallint
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
  delete from queue.ready
  where ctid = (
    select token.ctid from queue.ready as token
    where token.crashes > 1 and token.queue_id = p_queue_id and token.priority = p_priority
      and (p_lane is null or token.lane = p_lane)
      and (p_type_ids is null or token.type_id = any (p_type_ids))
      and (p_tenant_id is null or p_tenant_id = (
        select job.tenant_id from queue.jobs as job where job.id = token.id
      ))
    order by token.at, token.id
    limit 1
    for update skip locked
  )
  returning id, attempt + 1, crashes into o_id, o_attempt, o_crashes;
end;
$$;
comment on function queue.take_suspect is
  'Deletes the oldest token of a queue and priority whose job was lost more than once; returns it, or nulls.';

-- p_mark is what the last claim of this caller returned: {"q","p","l","at","id"} is a position in one lane, {"q","p","fair","lanes"} the
-- lane that was served last and how many there were, {} a full look, and null one by a caller that does not know of much to do. "sweep" asks for a full look, which one
-- of many workers gets at a time; the others go on from their marks. {"ranks"} takes only jobs that are more urgent than this rank, for a worker
-- whose buffer is full of less urgent ones.
create function queue.claim(
  p_worker_id integer, p_queue_ids integer[], p_except integer[], p_type_ids integer[], p_tenant_id integer,
  p_limit integer, p_lease_ms integer, p_mark json,
  out o_ids bigint[], out o_attempts smallint[], out o_leases bigint[], out o_expires_at timestamptz, out o_mark json
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
  v_rest integer := p_limit;
  v_crashes smallint[];
  v_lines integer[];
  v_mixed integer[];
  v_head record;
  v_part record;
  v_share integer;
  v_may_try boolean;
  v_is_marked boolean;
  v_scope bigint;
  v_detour json;
  v_from timestamptz := timestamptz '-infinity';
  v_begun_at timestamptz;
  v_is_whole boolean := false;
  v_read bigint;
  v_lease_id bigint;
begin
  perform queue.ensure_generation();
  -- Where a look from the start was dear not long ago, the claim begins where that one came to.
  if p_tenant_id is null and (p_mark is null or p_mark -> 'sweep' is not null)
    and pg_sequence_last_value('queue.detour_mark') = 1
  then
    v_scope := queue.scope_of(p_queue_ids, p_except, p_type_ids);
    v_detour := queue.detour(v_scope);
    if v_detour -> 'from' is not null then
      v_from := (v_detour ->> 'from')::timestamptz;
    end if;
    if p_mark is not null then
      if v_detour is not null then
        p_mark := (p_mark::jsonb - 'sweep')::json;
      end if;
      v_detour := null;
    elsif v_from = '-infinity' then
      p_mark := v_detour;
    else
      v_detour := null;
    end if;
  end if;
  if p_tenant_id is null and p_mark is null and v_from = '-infinity' then
    v_is_whole := true;
    v_begun_at := queue.clock();
    -- Entries of the index that this transaction has read so far, dead ones included.
    v_read := pg_stat_get_xact_tuples_returned('queue.ready_claim_idx'::regclass);
    v_part := queue.claim_few(p_worker_id, p_queue_ids, p_except, p_type_ids, p_limit, p_lease_ms);
    if v_part.o_is_all then
      v_read := pg_stat_get_xact_tuples_returned('queue.ready_claim_idx'::regclass) - v_read;
      if v_read > 2000 + 10 * p_limit then
        perform queue.note_detour(
          coalesce(v_scope, queue.scope_of(p_queue_ids, p_except, p_type_ids)), v_read, queue.detour_from(v_begun_at));
      elsif v_scope is not null then
        perform queue.note_detour(v_scope, 0, null);
      end if;
      if v_part.o_ids is not null then
        o_ids := v_part.o_ids;
        o_attempts := v_part.o_attempts;
        o_leases := array_fill(v_part.o_lease_id, array[cardinality(o_ids)]);
        o_expires_at := v_part.o_expires_at;
      end if;
      return;
    end if;
  end if;
  if p_mark -> 'sweep' is not null and queue.may_sweep(p_queue_ids, p_except, p_type_ids) then
    p_mark := '{}';
    v_is_whole := p_tenant_id is null;
    v_begun_at := queue.clock();
    v_read := pg_stat_get_xact_tuples_returned('queue.ready_claim_idx'::regclass);
  end if;
  if queue.promote_due() > 0 and v_from > '-infinity' then
    v_from := queue.pending_from(p_queue_ids, p_except, p_type_ids);
  end if;
  v_lines := queue.busy_lines(p_queue_ids, p_except, p_type_ids);

  if p_mark ->> 'at' is not null and (p_mark ->> 'q')::integer = any (v_lines) then
    v_part := queue.take_lane(
      (p_mark ->> 'q')::integer, (p_mark ->> 'p')::smallint, (p_mark ->> 'l')::integer, p_type_ids, null,
      (p_mark ->> 'at')::timestamptz, (p_mark ->> 'id')::bigint, v_rest);
    if v_part.o_ids is not null then
      o_ids := v_part.o_ids;
      o_attempts := v_part.o_attempts;
      v_crashes := v_part.o_crashes;
      v_rest := v_rest - cardinality(o_ids);
      o_mark := json_build_object(
        'q', p_mark -> 'q', 'p', p_mark -> 'p', 'l', p_mark -> 'l',
        'at', v_part.o_last_at, 'id', v_part.o_last_id);
    end if;
  end if;

  if v_rest > 0 then
    if p_mark is not null and p_tenant_id is null and not v_is_whole and pg_sequence_last_value('queue.detour_mark') = 1 then
      v_from := queue.pending_from(p_queue_ids, p_except, p_type_ids);
    end if;
    -- Only in a queue that is first in, first out does lane 0 hold the jobs of this tenant among others.
    if p_tenant_id > 0 then
      v_mixed := array(select line.id from queue.queues as line where line.id = any (v_lines) and line.is_fifo);
    end if;
    v_may_try := exists (select from queue.ready as token where token.crashes > 1)
      and not exists (
        select from queue.leases as held where held.worker_id = p_worker_id and held.crashes > 1
      );
    -- Where the oldest jobs of a priority belong to several tenants, its queues share the claim, in an order by lot;
    -- what some leave over goes to the others in a second pass. Where they don't, the oldest job comes first.
    for v_head in
      with head as materialized (
        select line.id as queue_id, rank.p::smallint as priority, first.lane, first.at,
          p_tenant_id is null and exists (
            select from queue.ready as token
            where token.queue_id = line.id and token.priority = rank.p and token.lane > first.lane and token.at >= v_from
          ) as is_shared,
          case when p_tenant_id is not null and first.lane = 0 then p_tenant_id end as filter_tenant_id
        from unnest(v_lines) as line (id)
        cross join generate_series(0, coalesce((p_mark ->> 'ranks')::integer, 4) - 1) as rank (p)
        cross join lateral (
          (
            select token.lane, token.at from queue.ready as token
            where p_tenant_id is null and token.queue_id = line.id and token.priority = rank.p
              and (token.lane, token.at) >= (0, v_from) and token.at >= v_from
            order by token.lane, token.at, token.id limit 1
          )
          union all
          (
            select token.lane, token.at from queue.ready as token
            where token.queue_id = line.id and token.priority = rank.p and token.lane = p_tenant_id
            order by token.at, token.id limit 1
          )
          union all
          (
            select token.lane, token.at from queue.ready as token
            where line.id = any (v_mixed) and token.queue_id = line.id and token.priority = rank.p and token.lane = 0
            order by token.at, token.id limit 1
          )
        ) as first
      ),
      drawn as (
        select head.*, count(*) over level as n,
          case
            when p_tenant_id is null and count(*) over level > 1
              and (bool_or(head.is_shared) over level or min(head.lane) over level <> max(head.lane) over level)
              then random()
          end as lot
        from head window level as (partition by head.priority)
      )
      select drawn.*, pass.number as pass,
        drawn.n + 1 - row_number() over (partition by drawn.priority, pass.number order by drawn.lot, drawn.at) as n_left
      from drawn
      cross join lateral generate_series(1, case when drawn.lot is null then 1 else 2 end) as pass (number)
      order by drawn.priority, pass.number, drawn.lot, drawn.at
    loop
      exit when v_rest = 0;
      -- This lane has just been looked through from the detour on.
      continue when v_detour is not null and v_head.queue_id = (v_detour ->> 'q')::integer
        and v_head.priority = (v_detour ->> 'p')::smallint and v_head.lane = (v_detour ->> 'l')::integer
        and not v_head.is_shared;
      if v_may_try then
        v_part := queue.take_suspect(
          v_head.queue_id, v_head.priority, case when p_tenant_id is not null then v_head.lane end, p_type_ids,
          v_head.filter_tenant_id);
        if v_part.o_id is not null then
          o_ids := o_ids || v_part.o_id;
          o_attempts := o_attempts || v_part.o_attempt;
          v_crashes := v_crashes || v_part.o_crashes;
          v_rest := v_rest - 1;
          v_may_try := false;
          exit when v_rest = 0;
        end if;
      end if;
      v_share := case
        when v_head.lot is null or v_head.pass = 2 then v_rest
        else ceil(v_rest / v_head.n_left::double precision)
      end;
      if v_head.is_shared then
        v_is_marked := (p_mark ->> 'q')::integer = v_head.queue_id and (p_mark ->> 'p')::smallint = v_head.priority;
        v_part := queue.take_fair(
          v_head.queue_id, v_head.priority,
          case when v_is_marked then (p_mark ->> 'fair')::integer end,
          case when v_is_marked then (p_mark ->> 'lanes')::integer end, p_type_ids, v_share);
        o_mark := json_build_object(
          'q', v_head.queue_id, 'p', v_head.priority, 'fair', v_part.o_last_lane, 'lanes', v_part.o_lanes);
      else
        v_part := queue.take_lane(
          v_head.queue_id, v_head.priority, v_head.lane, p_type_ids, v_head.filter_tenant_id,
          v_head.at, 0, v_share);
        o_mark := case when v_part.o_last_at is not null and v_head.lot is null then json_build_object(
          'q', v_head.queue_id, 'p', v_head.priority, 'l', v_head.lane,
          'at', v_part.o_last_at, 'id', v_part.o_last_id) end;
      end if;
      if v_part.o_ids is not null then
        o_ids := o_ids || v_part.o_ids;
        o_attempts := o_attempts || v_part.o_attempts;
        v_crashes := v_crashes || v_part.o_crashes;
        v_rest := p_limit - cardinality(o_ids);
      end if;
    end loop;
  end if;

  if v_is_whole then
    v_read := pg_stat_get_xact_tuples_returned('queue.ready_claim_idx'::regclass) - v_read;
    if v_read > 2000 + 10 * p_limit then
      -- All that there was has been taken, or some is left behind a place.
      if v_rest > 0 then
        v_detour := queue.detour_from(v_begun_at);
      else
        v_detour := case when o_mark -> 'at' is not null then o_mark end;
      end if;
      if v_detour is not null then
        perform queue.note_detour(
          coalesce(v_scope, queue.scope_of(p_queue_ids, p_except, p_type_ids)), v_read, v_detour);
      end if;
    elsif v_scope is not null then
      perform queue.note_detour(v_scope, 0, null);
    end if;
  end if;
  if o_ids is null then
    o_mark := null;
    return;
  end if;
  o_expires_at := queue.clock() + p_lease_ms * interval '1 millisecond';

  if 0 = all (v_crashes) then
    v_lease_id := nextval('queue.lease_ids');
    insert into queue.leases (id, claimed_at, expires_at, worker_id, crashes, job_ids, attempts)
    values (v_lease_id, queue.clock(), o_expires_at, p_worker_id, 0, o_ids, o_attempts);
    o_leases := array_fill(v_lease_id, array[cardinality(o_ids)]);
  else
    with token as (
      select given.*, case when given.crashes > 0 then given.position else 0 end as batch
      from unnest(o_ids, o_attempts, v_crashes) with ordinality as given (id, attempt, crashes, position)
    ),
    batch as (
      insert into queue.leases (id, claimed_at, expires_at, worker_id, crashes, job_ids, attempts)
      select nextval('queue.lease_ids'), queue.clock(), o_expires_at, p_worker_id, max(token.crashes),
        array_agg(token.id order by token.position), array_agg(token.attempt order by token.position)
      from token group by token.batch
      returning id, job_ids
    )
    select array_agg(batch.id order by array_position(o_ids, held.job_id)) into o_leases
    from batch, unnest(batch.job_ids) as held (job_id);
  end if;
end;
$$;
comment on function queue.claim is
  'Leases up to p_limit pending jobs to a worker; returns them with their leases as parallel arrays, in the order to run them.';
