-- A worker's leases go on. Changes no status.
--
-- Locks: leases in id order, with skip locked; one that somebody else holds keeps its end, and is told as busy.

create function queue.extend_leases(p_worker integer, p_lease_ids bigint[], p_lease_ms integer)
returns json
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_expires_at timestamptz := v_now + p_lease_ms * interval '1 millisecond';
  v_alive bigint[];
  v_busy bigint[];
  v_cancelled json;
begin
  -- Rows are locked in id order, as everywhere, and only then changed. A lease that somebody else holds keeps nobody waiting.
  v_alive := array(
    select lease.id from queue.leases as lease
    where lease.id = any (p_lease_ids) and lease.worker_id = p_worker
    order by lease.id for no key update skip locked
  );
  update queue.leases as lease set expires_at = greatest(lease.expires_at, v_expires_at), is_offered = false
  where lease.id = any (v_alive);
  if cardinality(v_alive) < cardinality(p_lease_ids) then
    v_busy := array(
      select lease.id from queue.leases as lease
      where lease.id = any (p_lease_ids) and lease.worker_id = p_worker and lease.id <> all (v_alive)
    );
  end if;
  select json_agg(json_build_array(held.id::text, request.job_id::text)) into v_cancelled
  from queue.cancellations as request
  join queue.leases as held on request.job_id = any (held.job_ids)
  where held.id = any (v_alive || v_busy)
    -- The job may have come back and run under another lease by now.
    and not exists (
      select from queue.runs as run where run.job_id = request.job_id and run.lease_id = held.id
    );
  return json_build_object(
    'alive', (select coalesce(json_agg(alive.id::text), '[]') from unnest(v_alive) as alive (id)),
    'busy', (select coalesce(json_agg(busy.id::text), '[]') from unnest(v_busy) as busy (id)),
    'cancelled', coalesce(v_cancelled, '[]'),
    'expires_at', queue.epoch_ms(v_expires_at),
    'now', queue.epoch_ms(v_now)
  );
end;
$$;
comment on function queue.extend_leases is
  'Pushes the end of live leases forward; tells which are alive, which somebody else holds locked, so that they keep their end, and which of their jobs somebody asked to cancel.';

create function queue.epoch_ms(p_at timestamptz)
returns bigint
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return floor(date_part('epoch', p_at) * 1000)::bigint;
end;
$$;
comment on function queue.epoch_ms is 'A time as milliseconds since 1970, the form times have in JSON.';
