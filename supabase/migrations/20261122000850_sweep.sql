-- The sweep: children that their parents' ends did not reach are freed or cancelled here.
--   blocked -> pending | scheduled | cancelled
--
-- There are two reasons. A child that was enqueued while its parent ran may have committed just after the parent's end looked for
-- children: such an edge is marked as racing. And an end leaves what is locked or too much: see queue.fanouts.
--
-- Locks: the newest run of ended parents, rows of queue.fanouts, then as queue.parents_ended, all with skip locked: sweeps never wait, not
-- for each other either. A redrive locks the same run, so that it comes either before or after.

create function queue.sweep_racing(p_budget integer default 5000)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_ids bigint[];
  v_runs bigint[];
  v_statuses queue.job_status[];
  v_after bigint[];
begin
  -- From one parent to the next: one of them may have very many such edges.
  with recursive racing (id) as (
    (
      select edge.parent_id from queue.dependencies as edge
      where edge.is_racing order by edge.parent_id limit 1
    )
    union all
    select (
      select edge.parent_id from queue.dependencies as edge
      where edge.is_racing and edge.parent_id > racing.id order by edge.parent_id limit 1
    )
    from racing where racing.id is not null
  )
  select array_agg(last.job_id order by last.job_id), array_agg(last.lease_id order by last.job_id) into v_ids, v_runs
  from racing
  cross join lateral (
    select run.job_id, run.lease_id, run.to_status from queue.runs as run
    where run.job_id = racing.id order by run.lease_id desc limit 1
  ) as last
  where last.to_status in ('completed', 'failed', 'cancelled')
    and not exists (select from queue.fanouts as fan where fan.parent_id = last.job_id);
  if v_ids is not null then
    select array_agg(held.job_id), array_agg(held.lease_id) into v_ids, v_runs
    from (
      select run.job_id, run.lease_id
      from unnest(v_ids, v_runs) as ended (job_id, lease_id)
      join queue.runs as run on run.job_id = ended.job_id and run.lease_id = ended.lease_id
      order by run.job_id
      for no key update of run skip locked
    ) as held;
    -- Looked at again now that they are locked: a redrive may have come before.
    insert into queue.fanouts (parent_id, status, after_id, looked_at)
    select run.job_id, run.to_status, 0, '-infinity'
    from unnest(v_ids, v_runs) as ended (job_id, lease_id)
    join queue.runs as run on run.job_id = ended.job_id and run.lease_id = ended.lease_id
    where not exists (
      select from queue.runs as newer where newer.job_id = run.job_id and newer.lease_id > run.lease_id
    )
    on conflict do nothing;
  end if;

  select array_agg(fan.parent_id), array_agg(fan.status), array_agg(fan.after_id) into v_ids, v_statuses, v_after
  from (
    select known.* from queue.fanouts as known
    order by known.looked_at, known.parent_id
    limit 1000
    for update skip locked
  ) as fan;
  return case when v_ids is null then 0 else queue.parents_ended(v_ids, v_statuses, p_budget, v_after) end;
end;
$$;
comment on function queue.sweep_racing is
  'Settles up to some thousand edges that the ends of their parents left, those longest waiting first and without waiting for anybody; returns how many.';

create function queue.sweep_children()
returns json
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_swept integer := queue.sweep_racing();
begin
  return json_build_object('swept', v_swept, 'is_more', exists (select from queue.fanouts));
end;
$$;
comment on function queue.sweep_children is
  'One slice of the sweep, for a worker: how many edges were settled, and whether some are left.';
