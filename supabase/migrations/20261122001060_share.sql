-- The claim of a run that takes at most so many jobs of each tenant: it goes from tenant to tenant, and to each once.
--   pending -> processing
--
-- Locks: as queue.claim, which it calls for one tenant at a time.

-- Where such a run goes on: {"lane", "left"} is the tenant it stands at, and how many more jobs of it may be taken; {"lane", "left", "line"}
-- the same for a queue that is first in, first out, which counts as one tenant.
create function queue.next_share(p_lines integer[], p_fifo integer[], p_tenant_id integer, p_per_tenant integer, p_mark json)
returns json
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_line integer;
  v_lane integer;
begin
  if (p_mark ->> 'left')::integer > 0 then
    return p_mark;
  end if;
  if p_tenant_id is not null then
    return case when p_mark ->> 'lane' is null then json_build_object('lane', p_tenant_id, 'left', p_per_tenant) end;
  end if;
  if p_mark ->> 'lane' is null then
    v_line := (
      select min(line.id) from unnest(p_fifo) as line (id) where line.id > coalesce((p_mark ->> 'line')::integer, 0)
    );
    if v_line is not null then
      return json_build_object('line', v_line, 'left', p_per_tenant);
    end if;
  end if;
  select min(first.lane) into v_lane
  from unnest(p_lines) as line (id)
  cross join generate_series(0, 3) as rank (p)
  cross join lateral (
    select token.lane from queue.ready as token
    where token.queue_id = line.id and token.priority = rank.p
      and token.lane > coalesce((p_mark ->> 'lane')::integer, -1)
    order by token.lane limit 1
  ) as first;
  return case when v_lane is not null then json_build_object('lane', v_lane, 'left', p_per_tenant) end;
end;
$$;
comment on function queue.next_share is 'The tenant from which such a run takes next, and how many jobs at most; null at its end.';

create function queue.claim_share(
  p_worker_id integer, p_queue_ids integer[], p_except integer[], p_type_ids integer[], p_tenant_id integer,
  p_per_tenant integer, p_limit integer, p_lease_ms integer, p_mark json,
  out o_ids bigint[], out o_attempts smallint[], out o_leases bigint[], out o_expires_at timestamptz, out o_mark json
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_lines integer[];
  v_fifo integer[];
  v_next json;
  v_part record;
  v_count integer;
begin
  perform queue.promote_due();
  v_lines := queue.busy_lines(p_queue_ids, p_except, p_type_ids);
  -- One tenant's jobs are found in any queue; where all are meant, such a queue is a tenant of its own.
  if p_tenant_id is null then
    v_fifo := array(select line.id from queue.queues as line where line.id = any (v_lines) and line.is_fifo);
    v_lines := array(select line.id from unnest(v_lines) as line (id) where line.id <> all (v_fifo));
  end if;
  o_mark := p_mark;
  loop
    v_next := queue.next_share(v_lines, v_fifo, p_tenant_id, p_per_tenant, o_mark);
    exit when v_next is null;
    v_count := least((v_next ->> 'left')::integer, p_limit - coalesce(cardinality(o_ids), 0));
    if v_next ->> 'line' is not null then
      v_part := queue.claim(
        p_worker_id, array[(v_next ->> 'line')::integer], null, p_type_ids, null, v_count, p_lease_ms, '{}');
    else
      v_part := queue.claim(
        p_worker_id, v_lines, null, p_type_ids, (v_next ->> 'lane')::integer, v_count, p_lease_ms, null);
    end if;
    o_ids := o_ids || v_part.o_ids;
    o_attempts := o_attempts || v_part.o_attempts;
    o_leases := o_leases || v_part.o_leases;
    o_expires_at := coalesce(v_part.o_expires_at, o_expires_at);
    -- Fewer than asked for: the tenant has no more that can be had, and is not asked again.
    o_mark := json_build_object('lane', v_next -> 'lane', 'line', v_next -> 'line', 'left', case
      when coalesce(cardinality(v_part.o_ids), 0) = v_count then (v_next ->> 'left')::integer - v_count else 0 end);
    exit when coalesce(cardinality(o_ids), 0) >= p_limit;
  end loop;
end;
$$;
comment on function queue.claim_share is
  'Leases up to p_limit jobs, and of each tenant at most p_per_tenant over all calls that pass on the mark. Returns no jobs when every tenant had its share.';
