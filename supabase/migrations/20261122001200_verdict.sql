-- Every way an attempt can end, one or many at once: what becomes of a job that failed, was snoozed, released,
-- discarded or cancelled. Completed ones are taken too, for callers with one job.
--   processing -> completed | failed | cancelled | scheduled | pending
--
-- Locks: leases in id order, then children's tokens.

create function queue.span(p_ms double precision)
returns interval
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when p_ms is not null then least(greatest(p_ms, 0), 3155760000000) * interval '1 millisecond' end;
end;
$$;
comment on function queue.span is 'Milliseconds as an interval, from nothing to a hundred years.';

create function queue.settle(p_items jsonb, p_worker integer default null)
returns table (lease_id bigint, job_id bigint, to_status queue.job_status)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_now timestamptz := queue.clock();
  v_alive bigint[] := queue.lock_leases(array(
    select distinct item.lease from jsonb_to_recordset(p_items) as item (lease bigint)), p_worker);
  v_jobs bigint[];
  v_leases bigint[];
  v_statuses queue.job_status[];
begin
  if v_alive is null then
    return;
  end if;
  -- Outcomes such as lost or redriven are the machine's own words: a worker can't end an attempt by them.
  if exists (
    select from jsonb_to_recordset(p_items) as item (outcome text)
    where coalesce(item.outcome, '') not in ('completed', 'failed', 'snoozed', 'released', 'discarded', 'cancelled')
  ) then
    raise exception 'unknown outcome' using errcode = '22023',
      hint = 'An attempt ends as completed, failed, snoozed, released, discarded or cancelled.';
  end if;
  -- Fences for the planner, as in complete_many: a lease is opened once, and only the jobs that end are looked up.
  with held as materialized (
    select lease.id as lease_id, lease.worker_id, lease.claimed_at, lease.crashes, part.job_id, part.attempt
    from queue.leases as lease, unnest(lease.job_ids, lease.attempts) as part (job_id, attempt)
    where lease.id = any (v_alive)
  ),
  given as materialized (
    select distinct on (item.lease, item.id) item.*
    from jsonb_to_recordset(p_items) as item (
      lease bigint, id bigint, outcome text, elapsed_ms double precision, error jsonb, retryable boolean,
      delay_ms double precision, reason text, result jsonb, note jsonb
    )
  ),
  part as materialized (
    select held.*, given.outcome, given.elapsed_ms, given.error, given.retryable, given.delay_ms, given.reason,
      given.result, given.note
    from held join given on given.lease = held.lease_id and given.id = held.job_id
  ),
  fact as (
    select part.job_id, part.lease_id, part.worker_id, part.claimed_at, part.crashes, part.attempt, part.outcome,
      part.elapsed_ms, part.reason, part.result, part.note,
      job.queue_id, job.type_id, job.tenant_id, job.priority, job.max_retries, job.options,
      coalesce(job.scheduled_at, job.created_at) as due_at, line.is_fifo, type.name as type_name,
      -- Somebody asked to cancel it while it ran: whatever would run it again cancels it.
      part.outcome <> 'completed' and (part.outcome = 'cancelled' or exists (
        select from queue.cancellations as request where request.job_id = part.job_id
      )) as is_cancelled,
      case when part.outcome in ('failed', 'discarded') then queue.tidy_error(
        coalesce(part.error, to_jsonb(part.reason))) end as error,
      part.outcome = 'failed' and coalesce(part.retryable, true) and part.attempt <= job.max_retries as may_retry,
      coalesce(part.delay_ms, queue.backoff_ms(
        part.attempt - 1,
        coalesce((job.options #>> '{backoff,base_ms}')::numeric::integer, type.backoff_base_ms),
        coalesce((job.options #>> '{backoff,cap_ms}')::numeric::integer, type.backoff_cap_ms),
        -- Rounded: JSON has numbers too small for a double, and casting one would fail the whole call.
        coalesce(round((job.options #>> '{backoff,jitter}')::numeric, 6)::double precision, type.backoff_jitter),
        random()
      )) as delay_ms
    from part
    join queue.jobs as job on job.id = part.job_id
    join queue.types as type on type.id = job.type_id
    join queue.queues as line on line.id = job.queue_id
    where (
      select run.job_id from queue.runs as run where run.job_id = part.job_id and run.lease_id = part.lease_id
    ) is null
  ),
  verdict as (
    select fact.*,
      case
        when fact.outcome = 'completed' then 'completed'
        when fact.is_cancelled then 'cancelled'
        when fact.outcome = 'released' then 'pending'
        when fact.outcome = 'snoozed' or fact.may_retry then 'scheduled'
        else 'failed'
      end::queue.job_status as to_status,
      case fact.outcome when 'discarded' then 'failed' else fact.outcome end::queue.run_outcome as run_outcome,
      v_now + queue.span(fact.delay_ms) as retry_at
    from fact
  ),
  run as (
    insert into queue.runs (
      job_id, lease_id, started_at, finished_at, worker_id, outcome, to_status, attempt, retry_at, fingerprint,
      reason, error, result, note
    )
    select verdict.job_id, verdict.lease_id,
      least(coalesce(v_now - queue.span(verdict.elapsed_ms), verdict.claimed_at), v_now), v_now, verdict.worker_id, verdict.run_outcome, verdict.to_status, verdict.attempt,
      case when verdict.to_status = 'scheduled' then verdict.retry_at end,
      case when verdict.error is not null then queue.fingerprint(verdict.type_name, verdict.error) end,
      left(verdict.reason, 8192), verdict.error,
      case when verdict.to_status = 'completed' then nullif(verdict.result, 'null') end, verdict.note
    from verdict
    returning job_id, lease_id, to_status
  ),
  later as (
    insert into queue.scheduled (id, at, queue_id, lane, type_id, priority, attempt, crashes)
    select verdict.job_id, verdict.retry_at, verdict.queue_id,
      case when verdict.is_fifo then 0 else verdict.tenant_id end, verdict.type_id, verdict.priority,
      verdict.attempt - case when verdict.outcome = 'snoozed' then 1 else 0 end, 0
    from verdict where verdict.to_status = 'scheduled'
  ),
  back as (
    insert into queue.ready (id, at, queue_id, lane, type_id, priority, attempt, crashes)
    select verdict.job_id, verdict.due_at, verdict.queue_id,
      case when verdict.is_fifo then 0 else verdict.tenant_id end, verdict.type_id, verdict.priority,
      verdict.attempt - 1, verdict.crashes
    from verdict where verdict.to_status = 'pending'
  )
  select array_agg(run.job_id order by run.job_id), array_agg(run.lease_id order by run.job_id),
    array_agg(run.to_status order by run.job_id)
  into v_jobs, v_leases, v_statuses
  from run;

  if v_jobs is null then
    return;
  end if;
  perform queue.close_leases(array_agg(tally.id), array_agg(tally.n)) from (
    select settled.id, count(*) as n from unnest(v_leases) as settled (id) group by settled.id
  ) as tally;
  perform queue.after_end(v_jobs, v_statuses);
  if 'pending' = any (v_statuses) then
    perform queue.end_detours();
  end if;
  perform queue.ring(line.queue_id, line.n, line.types) from (
    select job.queue_id, count(*)::integer as n, array_agg(distinct job.type_id) as types
    from unnest(v_jobs, v_statuses) as settled (id, status)
    join queue.jobs as job on job.id = settled.id
    where settled.status = 'pending' group by job.queue_id
  ) as line;
  return query select settled.lease_id, settled.id, settled.status
    from unnest(v_leases, v_jobs, v_statuses) as settled (lease_id, id, status);
end;
$$;
comment on function queue.settle is
  'Ends attempts: [{lease, id, outcome, error, retryable, delay_ms, elapsed_ms, reason, result, note}]; returns what became of each job whose lease was alive.';

-- What follows when jobs reached a final status: dead letters, waiting children, requests to cancel.
create function queue.after_end(p_job_ids bigint[], p_statuses queue.job_status[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_ended bigint[];
  v_statuses queue.job_status[];
  v_first bigint;
  v_last bigint;
begin
  select array_agg(ended.id), array_agg(ended.status), min(ended.id), max(ended.id) into v_ended, v_statuses, v_first, v_last
  from unnest(p_job_ids, p_statuses) as ended (id, status)
  where ended.status in ('completed', 'failed', 'cancelled');
  if v_ended is null then
    return;
  end if;
  if (select settings.broadcasts from queue.settings) then
    perform queue.broadcast('ended', v_ended, v_statuses);
  end if;

  insert into queue.dead_letters (
    job_id, type_id, queue_id, tenant_id, priority, max_retries, attempts, redrive_count, created_at, failed_at,
    fingerprint, last_error, errors, options, payload
  )
  select job.id, job.type_id, job.queue_id, job.tenant_id, job.priority, job.max_retries, last.attempt,
    trail.redrives, job.created_at, last.finished_at, coalesce(last.fingerprint, ''),
    coalesce(last.error ->> 'message', last.reason, 'unknown error'), coalesce(trail.errors, '[]'), job.options, job.payload
  from unnest(v_ended, v_statuses) as ended (id, status)
  join queue.jobs as job on job.id = ended.id
  cross join lateral (
    select run.* from queue.runs as run where run.job_id = job.id order by run.lease_id desc limit 1
  ) as last
  cross join lateral (
    select count(*) filter (where run.outcome = 'redriven') as redrives,
      jsonb_agg(jsonb_build_object(
        'attempt', run.attempt, 'at', run.finished_at, 'outcome', run.outcome, 'error', run.error
      ) order by run.lease_id) filter (where run.error is not null) as errors
    from (
      select every.* from queue.runs as every where every.job_id = job.id order by every.lease_id desc limit 100
    ) as run
  ) as trail
  where ended.status = 'failed'
  on conflict on constraint dead_letters_pkey do nothing;

  -- Between these bounds, because an old snapshot keeps the index entries of all that were ever deleted.
  if exists (select from queue.cancellations as request where request.job_id between v_first and v_last) then
    delete from queue.cancellations as request where request.job_id = any (v_ended);
  end if;
  if exists (select from queue.dependencies as edge where edge.parent_id between v_first and v_last) then
    perform queue.parents_ended(v_ended, v_statuses);
  end if;
end;
$$;
comment on function queue.after_end is 'Writes the dead letters of failed jobs and tells the jobs that wait for these.';

create function queue.settle_one(
  p_lease_id bigint, p_job_id bigint, p_outcome text, p_detail jsonb default null, p_result jsonb default null
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_status queue.job_status;
begin
  select settled.to_status into v_status from queue.settle(jsonb_build_array(
    coalesce(p_detail, '{}') || jsonb_build_object(
      'lease', p_lease_id, 'id', p_job_id, 'outcome', p_outcome, 'result', p_result)
  )) as settled;
  return v_status;
end;
$$;
comment on function queue.settle_one is 'Ends one attempt under a lease; the job''s new status, or null when the lease was lost.';

-- For callers that know the job and not its lease. Leases of several jobs are few: those are read all.
create function queue.live_lease(p_job_id bigint)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return (
    select max(held.id) from (
      select lease.id from queue.leases as lease
      where (case when cardinality(lease.job_ids) = 1 then lease.job_ids[1] end) = p_job_id
      union all
      select lease.id from queue.leases as lease
      where (case when cardinality(lease.job_ids) = 1 then lease.job_ids[1] end) is null
        and p_job_id = any (lease.job_ids)
    ) as held
    where not exists (
      select from queue.runs as run where run.job_id = p_job_id and run.lease_id = held.id
    )
  );
end;
$$;
comment on function queue.live_lease is 'The lease under which a job is being processed, or null.';
