-- What was cancelled because a parent failed or was cancelled comes back with that parent, in order.
--   cancelled -> blocked
--
-- Locks: one such call at a time (a guard), the newest runs of the ended jobs in id order, then their rows in queue.fanouts, then
-- parents' tokens as an enqueue does, then edges. A sweep locks the same runs and rows and never waits, so that it comes before
-- or after, and what it cancelled before is found here.

create function queue.hold_ended(p_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_runs bigint[];
begin
  select array_agg(last.job_id), array_agg(last.lease_id) into p_ids, v_runs
  from unnest(p_ids) as given (id)
  cross join lateral (
    select run.job_id, run.lease_id, run.to_status from queue.runs as run
    where run.job_id = given.id order by run.lease_id desc limit 1
  ) as last
  where last.to_status in ('failed', 'cancelled');
  perform from unnest(p_ids, v_runs) as ended (job_id, lease_id)
  join queue.runs as run on run.job_id = ended.job_id and run.lease_id = ended.lease_id
  order by run.job_id
  for update of run;
end;
$$;
comment on function queue.hold_ended is
  'Locks the newest runs of failed and cancelled jobs, in id order: nobody else revives them, and no sweep begins with their ends.';

-- The newest run is written once more as it is: a caller whose snapshot is older, and who holds it after us, must fail to serialize. He
-- would not see that the job runs again.
create function queue.begin_revival(p_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  -- Children that have not been told of the end yet wait on.
  delete from queue.fanouts as fan where fan.parent_id = any (p_ids) and fan.status <> 'completed';
  update queue.runs as run set outcome = run.outcome
  from unnest(p_ids) as given (id)
  cross join lateral (
    select last.lease_id from queue.runs as last where last.job_id = given.id order by last.lease_id desc limit 1
  ) as newest
  where run.job_id = given.id and run.lease_id = newest.lease_id;
end;
$$;
comment on function queue.begin_revival is
  'For failed and cancelled jobs that the caller holds and is about to run again: what their ends have not told yet is not told any more.';

create function queue.cancelled_by(p_roots bigint[])
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return array(
    with recursive flow (id) as (
      select root.id from unnest(p_roots) as root (id)
      union
      select run.job_id
      from flow join queue.runs as run on run.cause_id = flow.id
      where not exists (
        select from queue.runs as newer where newer.job_id = run.job_id and newer.lease_id > run.lease_id
      )
    )
    select flow.id from flow where flow.id <> all (p_roots) order by flow.id
  );
end;
$$;
comment on function queue.cancelled_by is
  'The jobs that are cancelled because of the end of one of these, and those that are because of theirs, in id order: parents first.';

create function queue.revive_flow(p_roots bigint[], p_reason text)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_now timestamptz := queue.clock();
  v_ids bigint[];
  v_held bigint[] := array[]::bigint[];
  v_children bigint[];
  v_parents bigint[];
  v_run_anyway boolean[];
  v_is_racing boolean[];
  v_verdicts text[];
  v_doomed bigint[];
begin
  -- Until nothing is found that is not locked: a sweep may have been at it.
  loop
    v_ids := queue.cancelled_by(p_roots);
    exit when not exists (select found.id from unnest(v_ids) as found (id) except select held.id from unnest(v_held) as held (id));
    v_held := v_ids;
    perform queue.hold_ended(v_ids);
    perform from queue.fanouts as fan where fan.parent_id = any (v_ids) order by fan.parent_id for update;
  end loop;

  loop
    -- A parent that is gone with its partition has ended, and whoever waited for it has been told.
    select array_agg(job.id), array_agg(parent.id), array_agg(coalesce(job.options ->> 'on_parent_failure' = 'run', false))
    into v_children, v_parents, v_run_anyway
    from queue.jobs as job
    cross join unnest(job.depends_on) as named (id)
    join queue.jobs as parent on parent.id = named.id
    where job.id = any (v_ids);
    exit when v_children is null;
    select
      array_agg(edge.child_id), array_agg(edge.parent_id), array_agg(edge.is_racing), array_agg(edge.verdict),
      array_agg(distinct edge.child_id) filter (where edge.verdict = 'doomed')
    into v_children, v_parents, v_is_racing, v_verdicts, v_doomed
    from queue.weigh_edges(v_children, v_parents, v_run_anyway, v_ids) as edge;
    exit when v_doomed is null;
    -- Another parent has failed or was cancelled: from now on that one is the cause, and with it they can come back.
    insert into queue.runs (
      job_id, lease_id, started_at, finished_at, outcome, to_status, attempt, from_status, reason, actor, cause_id
    )
    select doomed.child_id, nextval('queue.lease_ids'), v_now, v_now, 'cancelled', 'cancelled', last.attempt, 'cancelled',
      format('its parent %s has not ended well either', doomed.cause_id), queue.actor(), doomed.cause_id
    from (
      select edge.child_id, min(edge.parent_id) as cause_id, array_agg(edge.parent_id) as parent_ids
      from unnest(v_children, v_parents, v_verdicts) as edge (child_id, parent_id, verdict)
      where edge.verdict = 'doomed' group by edge.child_id
    ) as doomed
    cross join lateral (
      select run.attempt, run.cause_id from queue.runs as run
      where run.job_id = doomed.child_id order by run.lease_id desc limit 1
    ) as last
    where last.cause_id <> all (doomed.parent_ids);
    v_ids := array(select given.id from unnest(v_ids) as given (id) except select gone.id from unnest(v_doomed) as gone (id));
  end loop;
  if v_children is null then
    return 0;
  end if;
  -- Not of those that stay cancelled: their children are still to be told.
  perform queue.begin_revival(v_ids);

  -- An edge of a parent that had not ended when the child was cancelled may still be there, that of one which has ended since must go.
  delete from queue.dependencies as edge
  where edge.child_id = any (v_ids) and (edge.parent_id, edge.child_id) not in (
    select open.parent_id, open.child_id
    from unnest(v_parents, v_children, v_verdicts) as open (parent_id, child_id, verdict) where open.verdict = 'wait'
  );
  insert into queue.dependencies as known (parent_id, child_id, run_anyway, is_racing)
  select open.parent_id, job.id, coalesce(job.options ->> 'on_parent_failure' = 'run', false), open.is_racing
  from unnest(v_parents, v_children, v_is_racing, v_verdicts) as open (parent_id, child_id, is_racing, verdict)
  join queue.jobs as job on job.id = open.child_id
  where open.verdict = 'wait'
  order by open.parent_id, open.child_id
  on conflict on constraint dependencies_pkey do update set is_racing = excluded.is_racing or known.is_racing;
  insert into queue.waiting (id, at, queue_id, lane, type_id, priority, open_parents, first_parent)
  select job.id, coalesce(job.scheduled_at, v_now), job.queue_id, case when line.is_fifo then 0 else job.tenant_id end,
    job.type_id, job.priority, open.n, job.depends_on[1]
  from (
    select edge.child_id, count(*) as n from unnest(v_children, v_verdicts) as edge (child_id, verdict)
    where edge.verdict = 'wait' group by edge.child_id
  ) as open
  join queue.jobs as job on job.id = open.child_id
  join queue.queues as line on line.id = job.queue_id;
  with run as (
    insert into queue.runs (
      job_id, lease_id, started_at, finished_at, outcome, to_status, attempt, from_status, reason, actor
    )
    select given.id, nextval('queue.lease_ids'), v_now, v_now, 'redriven', 'blocked', 0, 'cancelled', left(p_reason, 8192), queue.actor()
    from unnest(v_ids) as given (id)
    returning job_id
  )
  insert into queue.audit (at, actor, action, job_id, detail)
  select v_now, queue.actor(), 'redriven', run.job_id, jsonb_build_object('from', 'cancelled', 'to', 'blocked', 'reason', p_reason)
  from run;
  return cardinality(v_ids);
end;
$$;
comment on function queue.revive_flow is
  'cancelled -> blocked for the jobs that the ends of these jobs cancelled, which are pending again, and for those that wait for them in turn; returns how many. One that another parent cancels as well stays.';
