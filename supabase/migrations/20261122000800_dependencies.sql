-- What the end of a job does to the jobs that wait for it.
--   blocked -> pending | scheduled   the last open parent ended well enough
--   blocked -> cancelled             a parent failed or was cancelled, and the edge does not say to run anyway
--
-- Locks: waiting tokens in id order, then edges, both with skip locked. Nothing here waits: it is part of the end of an attempt, which
-- must not depend on what strangers hold. What is locked, and what is more than one call may do, stays as it is: the parent gets
-- a row in queue.fanouts, and the sweep goes on from there.
-- A child's other edges are left alone: their parents will find no token and do nothing.

comment on column queue.runs.cause_id is 'The parent whose end cancelled it.';
create index runs_cause_idx on queue.runs (cause_id) where cause_id is not null;

create table queue.fanouts (
  parent_id bigint not null,
  status queue.job_status not null,
  after_id bigint not null,
  looked_at timestamptz not null,
  constraint fanouts_pkey primary key (parent_id),
  constraint fanouts_parent_ended check (status in ('completed', 'failed', 'cancelled'))
);
create index fanouts_turn_idx on queue.fanouts (looked_at, parent_id);
comment on table queue.fanouts is
  'Ended jobs whose children have not all been freed or cancelled: there were many, or somebody held some of them. The sweep does the rest.';
comment on column queue.fanouts.after_id is 'The child up to which the sweep has come in this pass.';
comment on column queue.fanouts.looked_at is 'When the sweep was last at it: whoever waits longest is next.';

-- p_budget: about how many edges one call takes. A round of few edges costs more than its edges, so it counts as some.
-- p_after: the sweep's marks, for parents that have rows in queue.fanouts, which it has locked.
create function queue.parents_ended(
  p_ids bigint[], p_statuses queue.job_status[], p_budget integer default 1000, p_after bigint[] default null
)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_left integer := p_budget;
  v_total integer := 0;
  v_parents bigint[];
  v_children bigint[];
  v_held bigint[];
  v_taken integer;
  v_is_cut boolean;
  v_met bigint[];
  v_counts integer[];
  v_doomed bigint[];
  v_culprits bigint[];
  v_causes text[];
  v_queue record;
begin
  loop
    select array_agg(slice.parent_id), array_agg(slice.child_id) into v_parents, v_children
    from (
      select ended.id as parent_id, edge.child_id
      from unnest(p_ids, p_after) as ended (id, after)
      cross join lateral (
        select edge.child_id from queue.dependencies as edge
        where edge.parent_id = ended.id and edge.child_id > coalesce(ended.after, 0)
        order by edge.child_id
        limit greatest(v_left, 0)
      ) as edge
      limit greatest(v_left, 0)
    ) as slice;
    v_is_cut := v_left <= coalesce(cardinality(v_children), 0);
    v_left := v_left - greatest(cardinality(v_children), 20);
    v_taken := 0;
    v_doomed := null;

    if v_children is not null then
      -- All children at once and in id order, freed and doomed ones alike: two parents may end with both in common.
      v_held := array(
        select token.id from queue.waiting as token where token.id = any (v_children) order by token.id
        for update skip locked
      );
      with mine as materialized (
        select edge.parent_id, edge.child_id, edge.run_anyway
        from unnest(v_parents, v_children) as slice (parent_id, child_id)
        join queue.dependencies as edge on edge.parent_id = slice.parent_id and edge.child_id = slice.child_id
        left join unnest(v_held) as held (id) on held.id = slice.child_id
        -- A child without a token has ended by itself.
        where held.id is not null or not exists (select from queue.waiting as token where token.id = slice.child_id)
        for update of edge skip locked
      ),
      gone as (
        delete from queue.dependencies as edge using mine
        where edge.parent_id = mine.parent_id and edge.child_id = mine.child_id
        returning edge.child_id, edge.parent_id, edge.run_anyway
      ),
      told as (
        select gone.child_id, gone.parent_id, ended.status, gone.run_anyway or ended.status = 'completed' as is_met
        from gone join unnest(p_ids, p_statuses) as ended (id, status) on ended.id = gone.parent_id
      ),
      child as (
        select told.child_id, count(*)::integer as n, bool_and(told.is_met) as is_met,
          min(told.parent_id) filter (where not told.is_met) as culprit,
          min(told.status::text) filter (where not told.is_met) as what
        from told group by told.child_id
      )
      select
        coalesce(sum(child.n), 0),
        array_agg(child.child_id order by child.child_id) filter (where child.is_met),
        array_agg(child.n order by child.child_id) filter (where child.is_met),
        array_agg(child.child_id order by child.child_id) filter (where not child.is_met),
        array_agg(child.culprit order by child.child_id) filter (where not child.is_met),
        array_agg(format('its parent %s %s', child.culprit, case child.what
          when 'failed' then 'failed' else 'was cancelled' end) order by child.child_id) filter (where not child.is_met)
      into v_taken, v_met, v_counts, v_doomed, v_culprits, v_causes
      from child;
      v_total := v_total + v_taken;

      if v_met is not null then
        -- The last parent's end removes the token: open_parents never stands at zero.
        for v_queue in
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
            returning queue_id, type_id
          )
          select now_ready.queue_id as id, count(*)::integer as n, array_agg(distinct now_ready.type_id) as types
          from now_ready group by now_ready.queue_id
        loop
          perform queue.ring(v_queue.id, v_queue.n, v_queue.types);
        end loop;
      end if;
    end if;

    if v_is_cut or p_after is not null or v_taken < cardinality(v_children) then
      perform queue.keep_fanouts(p_ids, p_statuses, p_after, v_is_cut, v_parents, v_children);
    end if;
    exit when v_doomed is null;
    p_ids := queue.bury_blocked(v_doomed, v_causes, v_culprits);
    p_statuses := array_fill('cancelled'::queue.job_status, array[coalesce(cardinality(p_ids), 0)]);
    p_after := null;
    exit when coalesce(cardinality(p_ids), 0) = 0;
  end loop;
  return v_total;
end;
$$;
comment on function queue.parents_ended is
  'Frees or cancels the jobs that wait for these ended jobs, and those that wait for them in turn, as far as its budget goes and nobody else holds them; returns how many edges it settled.';

-- Edges of these parents may be left: of those up to v_parents' last one the slice was looked at, of the others nothing.
create function queue.keep_fanouts(
  p_ids bigint[], p_statuses queue.job_status[], p_after bigint[], p_is_cut boolean, p_parents bigint[], p_children bigint[]
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_last_parent bigint := p_parents[cardinality(p_parents)];
  v_last_child bigint := p_children[cardinality(p_children)];
  -- Whoever comes after this position has not been looked at.
  v_cut_at integer := case when p_is_cut then coalesce(array_position(p_ids, v_last_parent), 0) end;
begin
  with given as (
    select given.id, given.status, given.position > v_cut_at as is_untouched,
      case
        when given.position > v_cut_at then coalesce(given.after, 0)
        when given.position = v_cut_at then v_last_child
        else 0
      end as next
    from unnest(p_ids, p_statuses, p_after) with ordinality as given (id, status, after, position)
  ),
  kept as (
    select given.*, exists (
      select from queue.dependencies as edge where edge.parent_id = given.id and edge.child_id > given.next
    ) as goes_on
    from given
    where exists (select from queue.dependencies as edge where edge.parent_id = given.id)
  ),
  done as (
    delete from queue.fanouts as fan
    where p_after is not null and fan.parent_id = any (p_ids)
      and fan.parent_id not in (select kept.id from kept)
  )
  insert into queue.fanouts as fan (parent_id, status, after_id, looked_at)
  -- Edges that were passed by because somebody held them are looked at again in the next pass.
  select kept.id, kept.status, case when kept.goes_on then kept.next else 0 end, queue.clock()
  from kept
  where p_after is null or coalesce(not kept.is_untouched, true)
  on conflict (parent_id) do update
  set status = excluded.status, after_id = excluded.after_id, looked_at = excluded.looked_at;
end;
$$;
comment on function queue.keep_fanouts is 'Notes which of these ended parents have edges left, for the sweep; forgets the others.';

create function queue.bury_blocked(p_ids bigint[], p_reasons text[], p_causes bigint[])
returns bigint[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_buried bigint[];
begin
  with gone as (
    delete from queue.waiting as token
    using unnest(p_ids, p_reasons, p_causes) as doomed (id, reason, cause_id)
    where token.id = doomed.id
    returning token.id, token.attempt, doomed.reason, doomed.cause_id
  ),
  run as (
    insert into queue.runs (
      job_id, lease_id, started_at, finished_at, outcome, to_status, attempt, from_status, reason, cause_id
    )
    select gone.id, nextval('queue.lease_ids'), v_now, v_now, 'cancelled', 'cancelled', gone.attempt, 'blocked',
      gone.reason, gone.cause_id
    from gone
  )
  select array_agg(gone.id order by gone.id) into v_buried from gone;
  if v_buried is not null and (select settings.broadcasts from queue.settings) then
    perform queue.broadcast('ended', v_buried, array_fill('cancelled'::queue.job_status, array[cardinality(v_buried)]));
  end if;
  return v_buried;
end;
$$;
comment on function queue.bury_blocked is
  'blocked -> cancelled for these jobs, whose tokens the caller has locked, with the reason of each and the parent that is the cause; returns those that were still blocked.';

-- For jobs that are being enqueued: nobody else knows them yet, so that none is left to the sweep.
create function queue.cancel_blocked(p_ids bigint[], p_causes bigint[], p_reason text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_buried bigint[] := queue.bury_blocked(p_ids, array_fill(p_reason, array[cardinality(p_ids)]), p_causes);
begin
  if v_buried is not null then
    perform queue.parents_ended(
      v_buried, array_fill('cancelled'::queue.job_status, array[cardinality(v_buried)]), 100000000);
  end if;
end;
$$;
comment on function queue.cancel_blocked is
  'blocked -> cancelled for these new jobs, each because of a parent that had ended, and for those that wait for them.';

create function queue.parent_results(p_job_id bigint)
returns table (id bigint, type text, status text, result jsonb)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
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
