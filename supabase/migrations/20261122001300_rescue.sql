-- The rescuer: jobs of leases that ran out go back, in one guarded statement.
--   processing -> pending      tried again
--   processing -> failed       its attempts are used up
--   processing -> cancelled    somebody had asked for it
--
-- Which of its jobs killed the worker is unknown. So what was lost together is not charged: it goes back as suspects, each
-- to be leased alone, and those lost again also one after the other. Whoever is lost alone is charged with the
-- attempt. A job that may run only once (max_retries 0) is always charged: it may have begun. So is one that was handed over: no worker
-- died of it. What was only offered is not charged and not suspect: its worker has not been heard of since before the enqueue.
--
-- Locks: expired leases with skip locked (an extend or settle in flight keeps its lease), then children's tokens.

create function queue.rescue(p_limit integer default 100, p_except integer default null)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_from timestamptz := queue.look_from('queue.expiry_mark');
  v_read bigint := pg_stat_get_xact_tuples_returned('queue.leases_expiry_idx'::regclass);
  v_jobs bigint[];
  v_statuses queue.job_status[];
  v_leases integer;
begin
  with expired as (
    delete from queue.leases as lease
    where lease.id = any (array(
      select late.id from queue.leases as late
      where late.expires_at < v_now and late.expires_at >= v_from and (p_except is null or late.worker_id <> p_except or late.is_offered)
      order by late.expires_at
      limit p_limit
      for update skip locked
    )) and lease.expires_at < v_now
    returning lease.*, lease.is_handed_over or not exists (
      select from queue.leases as other
      where other.worker_id = lease.worker_id and other.id <> lease.id and other.crashes >= lease.crashes
        and not other.is_handed_over
    ) as is_only
  ),
  lost as (
    select expired.id as lease_id, expired.worker_id, expired.claimed_at, expired.crashes, expired.is_handed_over,
      expired.is_offered, part.job_id, part.attempt,
      expired.is_only and count(*) over (partition by expired.id) = 1 as is_alone
    from expired, unnest(expired.job_ids, expired.attempts) as part (job_id, attempt)
    where (
      select run.job_id from queue.runs as run where run.job_id = part.job_id and run.lease_id = expired.id
    ) is null
  ),
  verdict as (
    select lost.*, job.queue_id, job.type_id, job.priority,
      case when line.is_fifo then 0 else job.tenant_id end as lane,
      coalesce(job.scheduled_at, job.created_at) as due_at,
      charge.is_due as is_charged,
      case
        when exists (select from queue.cancellations as request where request.job_id = lost.job_id) then 'cancelled'
        when charge.is_due and lost.attempt > job.max_retries then 'failed'
        else 'pending'
      end::queue.job_status as to_status,
      jsonb_build_object(
        'name', 'LeaseExpired',
        'message', case
          when lost.is_handed_over then 'the function that took the job did not report its end in time'
          else format('worker %s did not finish, extend or release its lease in time', worker.name) || coalesce(
            '; a handler of type ' || queue.names_of(worker.details, '{blocked,types}') || ' had blocked its event loop for '
            || queue.number_of(worker.details, '{blocked,ms}') || ' ms before', '')
        end
      ) as error,
      type.name as type_name, worker.name as worker_name
    from lost
    join queue.jobs as job on job.id = lost.job_id
    cross join lateral (
      select not lost.is_offered and (lost.is_alone or job.max_retries = 0) as is_due
    ) as charge
    join queue.types as type on type.id = job.type_id
    join queue.queues as line on line.id = job.queue_id
    left join queue.workers as worker on worker.id = lost.worker_id
  ),
  run as (
    insert into queue.runs (
      job_id, lease_id, started_at, finished_at, worker_id, outcome, to_status, attempt, fingerprint, reason, error
    )
    select verdict.job_id, verdict.lease_id, least(verdict.claimed_at, v_now), v_now, verdict.worker_id,
      case when verdict.is_offered then 'released' else 'lost' end::queue.run_outcome, verdict.to_status, verdict.attempt,
      case when not verdict.is_offered then queue.fingerprint(verdict.type_name, '{"name": "LeaseExpired"}') end,
      case when verdict.is_offered then format('worker %s, to which it was offered, did not answer', verdict.worker_name) end,
      case when not verdict.is_offered then verdict.error end
    from verdict
    returning job_id, to_status
  ),
  back as (
    insert into queue.ready (id, at, queue_id, lane, type_id, priority, attempt, crashes)
    select verdict.job_id, verdict.due_at, verdict.queue_id, verdict.lane, verdict.type_id, verdict.priority,
      verdict.attempt - case when verdict.is_charged then 0 else 1 end,
      case when verdict.is_offered then 0 else least(verdict.crashes + 1, 32767) end
    from verdict where verdict.to_status = 'pending'
  )
  select array_agg(run.job_id order by run.job_id), array_agg(run.to_status order by run.job_id), (select count(*) from expired)
  into v_jobs, v_statuses, v_leases
  from run;
  if v_from = '-infinity' and v_leases < p_limit
    and pg_stat_get_xact_tuples_returned('queue.leases_expiry_idx'::regclass) - v_read > 2000 + 10 * v_leases
    and p_except is null
  then
    perform queue.note_look('queue.expiry_mark', v_now);
  end if;

  if v_jobs is null then
    return 0;
  end if;
  perform queue.after_end(v_jobs, v_statuses);
  perform queue.end_detours();
  perform queue.ring(line.queue_id, line.n, line.types) from (
    select job.queue_id, count(*)::integer as n, array_agg(distinct job.type_id) as types
    from unnest(v_jobs, v_statuses) as settled (id, status)
    join queue.jobs as job on job.id = settled.id
    where settled.status = 'pending' group by job.queue_id
  ) as line;
  return cardinality(v_jobs);
end;
$$;
comment on function queue.rescue is
  'Takes back the unfinished jobs of up to p_limit expired leases, but none that the worker p_except has accepted; returns how many jobs.';
