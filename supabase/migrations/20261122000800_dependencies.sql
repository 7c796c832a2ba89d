-- What the end of a job does to the jobs that wait for it.
--   blocked -> pending | scheduled   the last open parent ended well enough
--   blocked -> cancelled             a parent failed or was cancelled, and the edge does not say to run anyway
--
-- Locks: edges of the ended parents, then waiting tokens in id order. A child's other edges are left alone: their
-- parents will find no token and do nothing.

create function queue.parents_ended(p_ids bigint[], p_statuses queue.job_status[])
returns void
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_met bigint[];
  v_counts integer[];
  v_doomed bigint[];
  v_causes text[];
  v_queue record;
begin
  loop
    with ended as (
      select given.id, given.status from unnest(p_ids, p_statuses) as given (id, status)
    ),
    gone as (
      delete from queue.dependencies as edge
      using ended
      where edge.parent_id = ended.id
      returning edge.child_id, edge.parent_id, ended.status, edge.run_anyway or ended.status = 'completed' as is_met
    ),
    child as (
      select gone.child_id, count(*)::integer as n, bool_and(gone.is_met) as is_met,
        min(gone.parent_id) filter (where not gone.is_met) as culprit,
        min(gone.status::text) filter (where not gone.is_met) as what
      from gone group by gone.child_id
    )
    select
      array_agg(child.child_id order by child.child_id) filter (where child.is_met),
      array_agg(child.n order by child.child_id) filter (where child.is_met),
      array_agg(child.child_id order by child.child_id) filter (where not child.is_met),
      array_agg(format('its parent %s %s', child.culprit, case child.what
        when 'failed' then 'failed' else 'was cancelled' end) order by child.child_id) filter (where not child.is_met)
    into v_met, v_counts, v_doomed, v_causes
    from child;

    -- All children at once and in id order, freed and doomed ones alike: two parents may end with both in common.
    perform from queue.waiting as token where token.id = any (v_met || v_doomed) order by token.id for update;

    if v_met is not null then
      -- The last parent's end removes the token: open_parents never stands at zero.
      with due as (
        select met.id, met.n from unnest(v_met, v_counts) as met (id, n)
      ),
      freed as (
        delete from queue.waiting as token using due
        where token.id = due.id and token.open_parents <= due.n
        returning token.*
      ),
      fewer as (
        update queue.waiting as token set open_parents = token.open_parents - due.n
        from due where token.id = due.id and token.open_parents > due.n
      ),
      later as (
        insert into queue.scheduled (id, at, queue_id, lane, type_id, priority)
        select freed.id, freed.at, freed.queue_id, freed.lane, freed.type_id, freed.priority
        from freed where freed.at > v_now
      ),
      now_ready as (
        insert into queue.ready (id, at, queue_id, lane, type_id, priority)
        select freed.id, v_now, freed.queue_id, freed.lane, freed.type_id, freed.priority
        from freed where freed.at <= v_now
        returning queue_id
      )
      select array_agg(woken.queue_id) as ids, array_agg(woken.n::integer) as counts into v_queue
      from (select now_ready.queue_id, count(*) as n from now_ready group by now_ready.queue_id) as woken;
      perform queue.ring(woken.id, woken.n) from unnest(v_queue.ids, v_queue.counts) as woken (id, n);
    end if;

    exit when v_doomed is null;
    p_ids := queue.bury_blocked(v_doomed, v_causes);
    p_statuses := array_fill('cancelled'::queue.job_status, array[coalesce(cardinality(p_ids), 0)]);
    exit when coalesce(cardinality(p_ids), 0) = 0;
  end loop;
end;
$$;
comment on function queue.parents_ended is
  'Frees or cancels the jobs that wait for these ended jobs, and those that wait for them in turn.';

create function queue.bury_blocked(p_ids bigint[], p_reasons text[])
returns bigint[]
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_buried bigint[];
begin
  perform from queue.waiting as token where token.id = any (p_ids) order by token.id for update;
  with gone as (
    delete from queue.waiting as token
    using unnest(p_ids, p_reasons) as doomed (id, reason)
    where token.id = doomed.id
    returning token.id, token.attempt, doomed.reason
  ),
  run as (
    insert into queue.runs (
      job_id, lease_id, started_at, finished_at, outcome, to_status, attempt, from_status, reason
    )
    select gone.id, nextval('queue.lease_ids'), v_now, v_now, 'cancelled', 'cancelled', gone.attempt, 'blocked', gone.reason
    from gone
  )
  select array_agg(gone.id order by gone.id) into v_buried from gone;
  if v_buried is not null and (select settings.broadcasts from queue.settings) then
    perform queue.broadcast('ended', v_buried, array_fill('cancelled'::queue.job_status, array[cardinality(v_buried)]));
  end if;
  return v_buried;
end;
$$;
comment on function queue.bury_blocked is 'blocked -> cancelled for these jobs, with the reason of each; returns those that were still blocked.';

create function queue.cancel_blocked(p_ids bigint[], p_reason text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_buried bigint[] := queue.bury_blocked(p_ids, array_fill(p_reason, array[cardinality(p_ids)]));
begin
  if v_buried is not null then
    perform queue.parents_ended(v_buried, array_fill('cancelled'::queue.job_status, array[cardinality(v_buried)]));
  end if;
end;
$$;
comment on function queue.cancel_blocked is 'blocked -> cancelled for these jobs and for those that wait for them.';

-- A child that was enqueued while its parent ran may have committed just after the parent's end looked for children.
create function queue.sweep_racing()
returns integer
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_ids bigint[];
  v_statuses queue.job_status[];
begin
  select array_agg(ended.id), array_agg(ended.status) into v_ids, v_statuses
  from (
    select racing.parent_id as id, (
      select run.to_status from queue.runs as run
      where run.job_id = racing.parent_id order by run.lease_id desc limit 1
    ) as status
    from (select distinct edge.parent_id from queue.dependencies as edge where edge.is_racing) as racing
  ) as ended
  where ended.status in ('completed', 'failed', 'cancelled');
  -- One sweeper at a time: two of them could take the edges in different orders.
  if v_ids is null or not pg_try_advisory_xact_lock(hashtextextended('millrace.sweep', 0)) then
    return 0;
  end if;
  perform queue.parents_ended(v_ids, v_statuses);
  return cardinality(v_ids);
end;
$$;
comment on function queue.sweep_racing is
  'Settles edges that were made while their parent was processing and has ended since; returns how many parents.';

create function queue.parent_results(p_job_id bigint)
returns table (id bigint, type text, status text, result jsonb)
language sql
stable
security definer
set search_path = ''
as $$
  select parent.id, type.name, run.to_status::text, run.result
  from queue.jobs as job
  cross join unnest(job.depends_on) with ordinality as named (id, position)
  join queue.jobs as parent on parent.id = named.id
  join queue.types as type on type.id = parent.type_id
  left join lateral (
    select last.to_status, last.result from queue.runs as last
    where last.job_id = parent.id order by last.lease_id desc limit 1
  ) as run on true
  where job.id = p_job_id
  order by named.position;
$$;
comment on function queue.parent_results is 'The parents of a job with their status and result.';
