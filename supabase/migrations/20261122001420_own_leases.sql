-- Leases that a worker holds and does not know of: the answer of a claim got lost.
--   processing -> pending, with the attempt given back
--
-- Locks: as settle does, leases in id order and then tokens.

-- The answer of advance can get lost after its commit, or the commit comes after the worker gave up: then it holds leases it never heard
-- of. A call of the worker can be late as well, so it never says "all but these": it asks first which leases there are, and names
-- those that none of its claims has brought.
create function queue.other_leases(p_worker integer, p_known_leases bigint[])
returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return (
    select coalesce(json_agg(lease.id::text), '[]') from queue.leases as lease
    where lease.worker_id = p_worker and not lease.is_handed_over and not lease.is_offered
      and lease.id <> all (coalesce(p_known_leases, '{}'))
  );
end;
$$;
comment on function queue.other_leases is
  'The leases of a worker other than these, as texts; those that it handed over, or that are only offered to it, are not among them.';

create function queue.forget_leases(p_worker integer, p_lease_ids bigint[])
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer;
begin
  select count(*) into v_count from queue.settle((
    select coalesce(jsonb_agg(jsonb_build_object('lease', lease.id, 'id', held.job_id, 'outcome', 'released')), '[]')
    from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
    where lease.id = any (p_lease_ids) and lease.worker_id = p_worker and not lease.is_handed_over
  ), p_worker);
  return v_count;
end;
$$;
comment on function queue.forget_leases is
  'Releases, with the attempt given back, the jobs of these leases of a worker, which has not begun any of them; returns how many.';
