-- What workers tell of themselves with their heartbeats, in words. Changes nothing, locks nothing.
--
-- details of a worker: {lanes: {"<queue or *>": {slots, running, fetched}}, fetched: {"<queue>": jobs},
--   overrun: {types, count, ms}, blocked: {types, ms, ago_ms}}. All of it is up to 10 s old, and any of it may be missing or of another kind:
-- workers of other programs tell what they like.

create function queue.number_of(p_details jsonb, p_path text[])
returns numeric
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when jsonb_typeof(p_details #> p_path) = 'number' then (p_details #>> p_path)::numeric end;
end;
$$;
comment on function queue.number_of is 'The number at this path of what a worker told; null when there is none.';

create function queue.names_of(p_details jsonb, p_path text[])
returns text
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select string_agg(left(given.name, 200), ' or ')
    from jsonb_array_elements_text(
      case when jsonb_typeof(p_details #> p_path) = 'array' then p_details #> p_path else '[]' end
    ) as given (name)
  );
end;
$$;
comment on function queue.names_of is 'The names at this path of what a worker told, joined by "or"; null when there are none.';

create function queue.live_workers(p_now timestamptz)
returns table (id integer, name text, seen_at timestamptz, queue_names text[], type_names text[], details jsonb)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select worker.id, worker.name, worker.seen_at, worker.queue_names, worker.type_names, worker.details
  from queue.workers as worker
  where worker.is_registered
    and worker.seen_at > p_now - (select settings.worker_timeout from queue.settings as settings);
$$;
comment on function queue.live_workers is 'Workers that have given a sign of life lately.';

-- A worker has slots for a queue of its own, or for all others together.
create function queue.lane_of(p_details jsonb, p_queue text)
returns jsonb
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(p_details #> array['lanes', p_queue], p_details #> array['lanes', '*']);
end;
$$;
comment on function queue.lane_of is 'What a worker told of its slots for this queue; null when it told nothing.';

create function queue.fetched()
returns table (queue text, jobs bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select told.queue, least(greatest(sum(queue.number_of(worker.details, array['fetched', told.queue])), 0), 1e15)::bigint
  from queue.live_workers(queue.clock()) as worker
  cross join lateral jsonb_object_keys(
    case when jsonb_typeof(worker.details -> 'fetched') = 'object' then worker.details -> 'fetched' else '{}' end
  ) as told (queue)
  group by told.queue;
$$;
comment on function queue.fetched is
  'How many jobs lie in workers and have not begun, for each queue, as the last heartbeats tell: an estimate.';

create function queue.busy_reason(p_type text, p_queue text, p_now timestamptz)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tally record;
  v_stuck record;
begin
  select count(*) as n, sum(told.slots) as slots, sum(told.running) as running,
    coalesce(bool_and(coalesce(told.running >= told.slots, false)), false) as is_full
  into v_tally
  from queue.live_workers(p_now) as worker
  cross join lateral (
    select queue.number_of(lane.told, '{slots}') as slots, queue.number_of(lane.told, '{running}') as running
    from (select queue.lane_of(worker.details, p_queue)) as lane (told)
  ) as told
  where (worker.type_names is null or p_type = any (worker.type_names))
    and (worker.queue_names is null or p_queue = any (worker.queue_names));
  if not v_tally.is_full then
    return null;
  end if;
  select worker.name, queue.number_of(worker.details, '{overrun,count}') as n,
    queue.number_of(worker.details, '{overrun,ms}') as ms, queue.names_of(worker.details, '{overrun,types}') as types
  into v_stuck
  from queue.live_workers(p_now) as worker
  where queue.number_of(worker.details, '{overrun,count}') > 0
    and (worker.type_names is null or p_type = any (worker.type_names))
    and (worker.queue_names is null or p_queue = any (worker.queue_names))
  order by 2 desc, 1 limit 1;
  return jsonb_build_object(
    'code', 'no_free_slot', 'slots', v_tally.slots, 'running', v_tally.running,
    'message', format('No worker has a free slot for it: %s of %s are taken.', v_tally.running, v_tally.slots)
      || case when v_stuck.n > 0 then format(
        ' In worker %s %s of type %s %s not stopped %s s after the end of %s attempt.', v_stuck.name,
        case when v_stuck.n = 1 then 'a handler' else v_stuck.n || ' handlers' end, v_stuck.types,
        case when v_stuck.n = 1 then 'has' else 'have' end, round(v_stuck.ms / 1000),
        case when v_stuck.n = 1 then 'its' else 'their' end) else '' end);
end;
$$;
comment on function queue.busy_reason is
  'Why a pending job of this type and queue waits although workers live: all their slots are taken. Null when that is not so, or not known.';

create function queue.long_runs(p_now timestamptz)
returns table (job_id bigint, type text, worker text, run_s double precision, usual_s double precision)
language sql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
  with held as materialized (
    select part.job_id, lease.id as lease_id, lease.claimed_at, lease.worker_id
    from (
      select old.* from queue.leases as old
      where old.claimed_at < p_now - interval '1 minute' and not old.is_handed_over
      order by old.id limit 100
    ) as lease, unnest(lease.job_ids) as part (job_id)
    limit 1000
  ),
  running as materialized (
    select held.*, job.type_id from held join queue.jobs as job on job.id = held.job_id
    where not exists (
      select from queue.runs as run where run.job_id = held.job_id and run.lease_id = held.lease_id
    )
  ),
  usual as materialized (
    select job.type_id, avg(extract(epoch from run.finished_at - run.started_at)::double precision) as s
    from (
      select last.job_id, last.started_at, last.finished_at from queue.runs as last
      where last.outcome = 'completed' and exists (select from running)
      order by last.job_id desc limit 1000
    ) as run
    join queue.jobs as job on job.id = run.job_id
    group by job.type_id
  )
  select running.job_id, type.name, worker.name,
    extract(epoch from p_now - running.claimed_at)::double precision, usual.s
  from running
  join usual on usual.type_id = running.type_id
  join queue.types as type on type.id = running.type_id
  left join queue.workers as worker on worker.id = running.worker_id
  where p_now - running.claimed_at > greatest(usual.s * 10, 60) * interval '1 second'
  order by running.claimed_at, running.job_id;
$$;
comment on function queue.long_runs is
  'Jobs that have run for over a minute and ten times as long as the newest runs of their type did on average, of the oldest 100 leases.';

create function queue.worker_problems(p_now timestamptz)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problems jsonb;
  v_long record;
begin
  select coalesce(jsonb_agg(problem.told order by problem.code, problem.worker), '[]') into v_problems
  from (
    select 'event_loop_blocked' as code, worker.name as worker, jsonb_build_object(
      'code', 'event_loop_blocked', 'message', format(
        'Worker %s: %s for %s ms, %s s ago. Let it yield now and then, move its work to a worker thread, or raise leaseMs.',
        worker.name,
        coalesce('a handler of type ' || queue.names_of(worker.details, '{blocked,types}') || ' blocked its event loop',
          'its process did not run'),
        round(queue.number_of(worker.details, '{blocked,ms}')), round(told.ago_s))) as told
    from queue.live_workers(p_now) as worker
    cross join lateral (
      select queue.number_of(worker.details, '{blocked,ago_ms}') / 1000
        + extract(epoch from p_now - worker.seen_at)::numeric as ago_s
    ) as told
    where queue.number_of(worker.details, '{blocked,ms}') > 0 and told.ago_s < 900
    union all
    select 'handlers_overrun', worker.name, jsonb_build_object('code', 'handlers_overrun', 'message', format(
      'Worker %s: %s of type %s %s not stopped although the attempt ended %s s ago, and %s the slot.', worker.name,
      case when told.n = 1 then 'a handler' else told.n || ' handlers' end,
      queue.names_of(worker.details, '{overrun,types}'), case when told.n = 1 then 'has' else 'have' end,
      round(queue.number_of(worker.details, '{overrun,ms}') / 1000), case when told.n = 1 then 'keeps' else 'keep' end))
    from queue.live_workers(p_now) as worker
    cross join lateral (select queue.number_of(worker.details, '{overrun,count}') as n) as told
    where told.n > 0
    order by 1, 2
    limit 20
  ) as problem;
  select late.*, count(*) over () as n into v_long from queue.long_runs(p_now) as late limit 1;
  if v_long.n > 0 then
    v_problems := v_problems || jsonb_build_object('code', 'long_runs', 'message', format(
      'Job %s of type %s has run for %s s in worker %s; others of its type took %s s%s.', v_long.job_id, v_long.type,
      round(v_long.run_s), v_long.worker, round(v_long.usual_s::numeric, 1),
      case when v_long.n > 1 then format(', and %s more jobs run unusually long', v_long.n - 1) else '' end));
  end if;
  return v_problems;
end;
$$;
comment on function queue.worker_problems is
  'What is wrong inside of live workers, as problems of queue_health: handlers that blocked their process, did not stop, or run unusually long.';
