-- The end of an attempt. Every function here holds only while the lease is alive: it locks the lease row first, so
-- that the rescuer can't pass between, and a job that already has a run under this lease is refused.
--   processing -> completed | failed | cancelled | scheduled (retry, snooze) | pending (release)
--
-- Locks: leases in id order, then children's tokens. A worker's call takes only the leases that nobody else holds: it tells of many, and
-- whoever holds one of them (a cancellation, a completion in an application's transaction) must not keep the others waiting.

-- delay = base * 2^retries, capped; p_jitter of it is random, so that retries of one outage don't come together.
create function queue.backoff_ms(
  p_retry_count integer, p_base_ms integer, p_cap_ms integer, p_jitter double precision, p_random double precision
)
returns double precision
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return least(p_base_ms * power(2::double precision, least(p_retry_count, 60)), p_cap_ms) * (1 - p_jitter * p_random);
end;
$$;
comment on function queue.backoff_ms is 'Milliseconds to wait before retry number p_retry_count, counted from 0. p_random is from 0 to 1.';

-- Errors that differ only in numbers, ids and quoted values are one error.
create function queue.fingerprint(p_type text, p_error jsonb)
returns text
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return md5(p_type || ':' || coalesce(p_error ->> 'name', '') || ':' || regexp_replace(
    regexp_replace(left(coalesce(p_error ->> 'message', ''), 1000), '(''[^'']*''|"[^"]*")', '?', 'g'),
    '[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|0x[0-9a-fA-F]+|[0-9a-fA-F]{16,}|[0-9]+', '#', 'g'));
end;
$$;
comment on function queue.fingerprint is 'The same for errors of a type that differ only in numbers, ids and quoted values.';

create function queue.tidy_error(p_error jsonb)
returns jsonb
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when p_error is null or jsonb_typeof(p_error) = 'null' then '{"message": "unknown error"}'::jsonb
    when jsonb_typeof(p_error) <> 'object' then jsonb_build_object('message', left(p_error #>> '{}', 8192))
    when pg_column_size(p_error) <= 32768 then case
      when p_error ->> 'message' is not null then p_error else p_error || '{"message": "unknown error"}' end
    else jsonb_build_object(
      'name', left(p_error ->> 'name', 200), 'message', left(coalesce(p_error ->> 'message', 'unknown error'), 8192),
      'stack', left(p_error ->> 'stack', 8192), 'truncated', true)
  end;
end;
$$;
comment on function queue.tidy_error is 'Any JSON as an error object with a message, at most some 32 KiB; never raises.';

create function queue.lock_leases(p_lease_ids bigint[], p_worker integer default null)
returns bigint[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  if p_worker is null then
    return (
      select array_agg(held.id) from (
        select lease.id from queue.leases as lease where lease.id = any (p_lease_ids) order by lease.id for update
      ) as held
    );
  end if;
  return (
    select array_agg(held.id) from (
      select lease.id from queue.leases as lease
      where lease.id = any (p_lease_ids) and lease.worker_id = p_worker and not lease.is_handed_over
      order by lease.id for update skip locked
    ) as held
  );
end;
$$;
comment on function queue.lock_leases is
  'Locks live leases in id order and returns those that are alive: of any worker, waiting for each, or those that one still has in its own hands, without those that somebody else holds.';

-- Leases whose jobs all ended go. p_counts: how many ended just now; a lease settled whole needs no second look,
-- and another is looked at only once its last job has ended.
create function queue.close_leases(p_lease_ids bigint[], p_counts bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_lease record;
begin
  for v_lease in
    select lease.id, lease.job_ids, cardinality(lease.job_ids) as size, touched.n,
      (select min(held.id) from unnest(lease.job_ids) as held (id)) as first,
      (select max(held.id) from unnest(lease.job_ids) as held (id)) as last
    from unnest(p_lease_ids, p_counts) as touched (id, n)
    join queue.leases as lease on lease.id = touched.id
    where lease.id = any (p_lease_ids)
    order by lease.id
  loop
    if v_lease.size > v_lease.n then
      continue when not exists (
        select from queue.runs as run
        where run.job_id = v_lease.job_ids[v_lease.size] and run.lease_id = v_lease.id
      );
      continue when v_lease.size > (
        select count(*) from queue.runs as run
        where run.job_id = any (v_lease.job_ids) and run.lease_id = v_lease.id
          and run.job_id between v_lease.first and v_lease.last
      );
    end if;
    delete from queue.leases as lease where lease.id = v_lease.id;
  end loop;
end;
$$;
comment on function queue.close_leases is 'Deletes those of these leases whose jobs have all ended.';

create function queue.after_completion(p_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_first bigint;
  v_last bigint;
begin
  if p_ids is null then
    return;
  end if;
  if (select settings.broadcasts from queue.settings) then
    perform queue.broadcast('ended', p_ids, array_fill('completed'::queue.job_status, array[cardinality(p_ids)]));
  end if;
  -- Between these bounds, because an old snapshot keeps the index entries of all that were ever deleted.
  select min(done.id), max(done.id) into v_first, v_last from unnest(p_ids) as done (id);
  if exists (select from queue.cancellations as request where request.job_id between v_first and v_last) then
    delete from queue.cancellations as request where request.job_id = any (p_ids);
  end if;
  if exists (select from queue.dependencies as edge where edge.parent_id between v_first and v_last) then
    perform queue.parents_ended(p_ids, array_fill('completed'::queue.job_status, array[cardinality(p_ids)]));
  end if;
end;
$$;
comment on function queue.after_completion is 'Forgets requests to cancel what completed, frees children, and tells Realtime where that is switched on.';

-- The happy path in bulk: parallel arrays of lease, job, milliseconds since the handler began, and results.
create function queue.complete_many(
  p_lease_ids bigint[], p_job_ids bigint[], p_elapsed_ms integer[], p_results json, p_worker integer,
  out o_done bigint[], out o_done_leases bigint[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_nestloop = off
set enable_mergejoin = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := queue.clock();
  v_alive bigint[] := queue.lock_leases(p_lease_ids, p_worker);
  v_first bigint := (select min(given.id) from unnest(p_job_ids) as given (id));
  v_last bigint := (select max(given.id) from unnest(p_job_ids) as given (id));
  v_leases bigint[];
  v_counts bigint[];
begin
  if v_alive is null then
    return;
  end if;
  -- Fences for the planner, which can't know how long arrays are: each is opened once, runs are looked up by one
  -- index scan for all jobs (between bounds, by which it prunes partitions), and everything is joined by hash.
  with held as materialized (
    select lease.id as lease_id, lease.worker_id, lease.claimed_at, part.job_id, part.attempt
    from queue.leases as lease, unnest(lease.job_ids, lease.attempts) as part (job_id, attempt)
    where lease.id = any (v_alive)
  ),
  given as materialized (
    select item.* from rows from (
      unnest(p_lease_ids, p_job_ids, p_elapsed_ms), json_array_elements(coalesce(p_results, '[]'))
    ) as item (lease_id, job_id, elapsed_ms, result)
  ),
  ended as materialized (
    select run.job_id, run.lease_id from queue.runs as run
    where run.job_id = any (p_job_ids) and run.lease_id = any (v_alive)
      and run.job_id between v_first and v_last
  ),
  matched as materialized (
    select held.*, given.elapsed_ms, given.result
    from given
    join held on held.lease_id = given.lease_id and held.job_id = given.job_id
    left join ended on ended.lease_id = given.lease_id and ended.job_id = given.job_id
    where ended.job_id is null
  ),
  done as (
    insert into queue.runs (
      job_id, lease_id, started_at, finished_at, worker_id, outcome, to_status, attempt, result
    )
    select matched.job_id, matched.lease_id,
      least(coalesce(v_now - matched.elapsed_ms * interval '1 millisecond', matched.claimed_at), v_now), v_now,
      matched.worker_id, 'completed', 'completed', matched.attempt,
      case when json_typeof(matched.result) <> 'null' then matched.result::jsonb end
    from matched
    returning job_id, lease_id
  ),
  tally as (
    select done.lease_id, count(*) as n from done group by done.lease_id
  )
  select
    (select array_agg(done.job_id) from done), (select array_agg(done.lease_id) from done),
    (select array_agg(tally.lease_id) from tally), (select array_agg(tally.n) from tally)
  into o_done, o_done_leases, v_leases, v_counts;

  perform queue.close_leases(v_leases, v_counts);
  perform queue.after_completion(o_done);
end;
$$;
comment on function queue.complete_many is 'processing -> completed for jobs of live leases; returns those it completed.';

-- The same for leases whose jobs all completed: nothing is looked up. p_sizes tells how many jobs each lease holds;
-- p_elapsed_ms and p_results hold an entry for each job of the first lease in its order, then of the second, and so on. If one of
-- the jobs has ended already under its lease, the insert is a unique_violation, and the caller has to name the jobs.
create function queue.complete_leases(
  p_lease_ids bigint[], p_sizes integer[], p_elapsed_ms integer[], p_results json, p_worker integer,
  out o_lost bigint[], out o_busy bigint[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := queue.clock();
  v_alive bigint[] := queue.lock_leases(p_lease_ids, p_worker);
  v_results json[];
  v_lease record;
  v_done bigint[];
begin
  if p_results is not null then
    v_results := array(select given.value from json_array_elements(p_results) as given (value));
  end if;
  for v_lease in
    select given.id, lease.claimed_at, lease.worker_id, lease.job_ids, lease.attempts,
      sum(given.size) over (order by given.position) - given.size + 1 as first,
      sum(given.size) over (order by given.position) as last,
      coalesce(cardinality(lease.job_ids) = given.size, false) as is_held
    from unnest(p_lease_ids, p_sizes) with ordinality as given (id, size, position)
    left join queue.leases as lease on lease.id = given.id and lease.id = any (v_alive)
    order by given.position
  loop
    if not v_lease.is_held then
      o_lost := o_lost || v_lease.id;
      continue;
    end if;
    insert into queue.runs (
      job_id, lease_id, started_at, finished_at, worker_id, outcome, to_status, attempt, result
    )
    select part.job_id, v_lease.id,
      least(coalesce(v_now - part.elapsed_ms * interval '1 millisecond', v_lease.claimed_at), v_now), v_now,
      v_lease.worker_id, 'completed', 'completed', part.attempt,
      case when json_typeof(part.result) <> 'null' then part.result::jsonb end
    from unnest(
      v_lease.job_ids, v_lease.attempts, p_elapsed_ms[v_lease.first:v_lease.last], v_results[v_lease.first:v_lease.last]
    ) as part (job_id, attempt, elapsed_ms, result);
    v_done := v_done || v_lease.job_ids;
  end loop;
  delete from queue.leases as lease where lease.id = any (v_alive) and lease.id <> all (coalesce(o_lost, '{}'));
  if o_lost is not null then
    o_busy := array(
      select lease.id from queue.leases as lease
      where lease.id = any (o_lost) and lease.id <> all (coalesce(v_alive, '{}'))
        and lease.worker_id = p_worker and not lease.is_handed_over
    );
    o_lost := array(select lost.id from unnest(o_lost) as lost (id) where lost.id <> all (o_busy));
  end if;
  perform queue.after_completion(v_done);
end;
$$;
comment on function queue.complete_leases is
  'processing -> completed for all jobs of these leases; returns the leases that were lost, and those that somebody else holds locked. Raises unique_violation when a job had ended before.';
