-- When the clock is set back, times that were written before lie in the future. Where nothing but a pause depends on them, whoever
-- compares them takes no notice. The rest is moved here: leases, so that those of a dead worker still run out; the last sign
-- of life of workers, so that a dead one is not taken for alive; and retries, which are due so long after their failure.
-- When the clock is set forward, leases run out early. What its worker extends in time, which it does every third of a lease,
-- stays with it; the rest is rescued as if the worker had died, and runs again.
--
-- Locks: workers, leases and tokens of scheduled, each in id order, with skip locked.

create function queue.follow_clock()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_workers integer[];
  v_seen timestamptz[];
  v_moved bigint[];
begin
  if not exists (select from queue.workers as worker where worker.seen_at > v_now + interval '1 second') then
    return 0;
  end if;
  select array_agg(ahead.id), array_agg(ahead.seen_at) into v_workers, v_seen
  from (
    select worker.id, worker.seen_at from queue.workers as worker
    where worker.seen_at > v_now + interval '1 second'
    order by worker.id for update skip locked
  ) as ahead;
  if v_workers is null then
    return 0;
  end if;

  -- A lease that outlived the last sign of life of its worker has as much time left as it had then, and enough for a worker
  -- that lives to extend it. One that was claimed in the future and did not outlive it has none.
  with ahead as (
    select given.worker_id, given.seen_at from unnest(v_workers, v_seen) as given (worker_id, seen_at)
  ),
  held as (
    select lease.id from queue.leases as lease join ahead on ahead.worker_id = lease.worker_id
    where lease.expires_at > v_now and (lease.expires_at > ahead.seen_at or lease.claimed_at > v_now)
    order by lease.id for update of lease skip locked
  ),
  moved as (
    update queue.leases as lease
    set expires_at = case
      when lease.expires_at > ahead.seen_at
        then v_now + greatest(lease.expires_at - ahead.seen_at, least(lease.expires_at - v_now, interval '30 seconds'))
      else v_now
    end
    from ahead
    where ahead.worker_id = lease.worker_id and lease.id = any (array(select held.id from held))
    returning lease.id
  )
  select coalesce(array_agg(moved.id), '{}') into v_moved from moved;

  -- The soonest only: more would take too long, and the next sign of life from the future, if there is one, brings the next.
  with late as (
    select token.id, v_now + (last.retry_at - last.finished_at) as at
    from (
      select later.id, later.at from queue.scheduled as later where later.at > v_now order by later.at, later.id limit 10000
    ) as token
    cross join lateral (
      select run.retry_at, run.finished_at from queue.runs as run
      where run.job_id = token.id order by run.lease_id desc limit 1
    ) as last
    where last.retry_at = token.at and last.finished_at > v_now
  ),
  held as (
    select token.id from queue.scheduled as token where token.id = any (array(select late.id from late))
    order by token.id for update skip locked
  )
  update queue.scheduled as token set at = late.at
  from late
  where token.id = late.id and token.id = any (array(select held.id from held));

  -- Whose lease somebody held just now is seen to by the next call.
  update queue.workers as worker set seen_at = v_now
  from unnest(v_workers, v_seen) as ahead (worker_id, seen_at)
  where worker.id = ahead.worker_id and not exists (
    select from queue.leases as lease
    where lease.worker_id = worker.id and lease.id <> all (v_moved)
      and lease.expires_at > v_now and (lease.expires_at > ahead.seen_at or lease.claimed_at > v_now)
  );
  return cardinality(v_moved);
end;
$$;
comment on function queue.follow_clock is
  'After the clock was set back: leases run out as long after now as they had left, retries come as long after now as they should, and no sign of life lies in the future. Returns how many leases were moved.';
