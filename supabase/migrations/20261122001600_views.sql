-- The contract's views. All are security_invoker: row level security of the caller decides which rows there are.

create view public.job_queue with (security_invoker = true) as
select
  job.id,
  type.name as type,
  line.name as queue,
  state.status::text as status,
  queue.priority_name(job.priority) as priority,
  job.payload,
  tenant.name as tenant_id,
  coalesce(state.token_at, job.scheduled_at, job.created_at) as scheduled_at,
  coalesce(state.attempts, 0)::integer as attempts,
  job.max_retries::integer as max_retries,
  job.created_at,
  case when state.status = 'processing' then live.claimed_at
    when last.from_status is null then last.started_at end as started_at,
  case when state.status in ('completed', 'failed', 'cancelled') then last.finished_at end as finished_at,
  worker.name as worker_id,
  -- The reason of a snooze or a redrive is no error; that of a cancellation tells what became of the job.
  case when last.outcome in ('failed', 'lost', 'cancelled') then coalesce(last.error ->> 'message', last.reason) end
    as last_error,
  last.error,
  case when state.status = 'completed' then last.result end as result,
  news.percent as progress_percent,
  news.message as progress_message,
  news.data as progress_data,
  coalesce(job.depends_on, '{}') as depends_on,
  job.options
from queue.jobs as job
join queue.types as type on type.id = job.type_id
join queue.queues as line on line.id = job.queue_id
left join queue.tenants as tenant on tenant.id = job.tenant_id
left join queue.ready on ready.id = job.id
left join queue.scheduled on scheduled.id = job.id
left join queue.waiting on waiting.id = job.id
left join lateral (
  select run.* from queue.runs as run where run.job_id = job.id order by run.lease_id desc limit 1
) as last on true
left join (
  select held.job_id, held.attempt, lease.id as lease_id, lease.claimed_at, lease.worker_id
  from queue.leases as lease, unnest(lease.job_ids, lease.attempts) as held (job_id, attempt)
) as live on live.job_id = job.id and live.lease_id > coalesce(last.lease_id, 0)
cross join lateral (
  select
    case
      when ready.id is not null then 'pending'
      when scheduled.id is not null then 'scheduled'
      when waiting.id is not null then 'blocked'
      when last.to_status in ('completed', 'failed', 'cancelled') then last.to_status
      else 'processing'
    end::queue.job_status as status,
    coalesce(ready.at, scheduled.at, waiting.at) as token_at,
    coalesce(
      ready.attempt, scheduled.attempt, waiting.attempt, live.attempt,
      case
        when last.to_status in ('completed', 'failed', 'cancelled') then last.attempt
        when last.outcome in ('snoozed', 'released') then last.attempt
        when last.outcome = 'redriven' then 1
        else last.attempt + 1
      end,
      1
    ) as attempts
) as state
left join queue.workers as worker on worker.id = case
  when state.status = 'processing' then live.worker_id else last.worker_id end
left join queue.progress as news on news.job_id = job.id;
comment on view public.job_queue is
  'Every job with its status, attempts, progress, result. The status is where its token stands; see docs/states.md.';

create view public.queue_jobs with (security_invoker = true) as
select
  job.id,
  job.type as job_type,
  job.status,
  job.tenant_id,
  job.priority,
  job.payload,
  job.attempts,
  job.max_retries + 1 as max_attempts,
  job.last_error as error_message,
  job.result,
  job.scheduled_at,
  job.created_at,
  job.started_at,
  job.finished_at as completed_at
from public.job_queue as job;
comment on view public.queue_jobs is 'The rows of job_queue in the words of multi-tenant users: job_type, attempts of max_attempts, error_message.';

create view public.job_dead_letter with (security_invoker = true) as
select
  dead.job_id as id,
  type.name as type,
  line.name as queue,
  queue.priority_name(dead.priority) as priority,
  dead.payload,
  tenant.name as tenant_id,
  dead.attempts::integer as attempts,
  dead.max_retries::integer as max_retries,
  dead.last_error,
  dead.errors,
  dead.fingerprint,
  dead.redrive_count,
  dead.created_at,
  dead.failed_at,
  dead.options
from queue.dead_letters as dead
join queue.types as type on type.id = dead.type_id
join queue.queues as line on line.id = dead.queue_id
left join queue.tenants as tenant on tenant.id = dead.tenant_id;
comment on view public.job_dead_letter is 'Failed jobs with their payload, every error, a fingerprint that groups errors, and how often they were redriven.';

-- The steps that write no row of their own are told from the rows beside them: a scheduled job became pending when
-- its time came, a blocked one when its last parent ended.
create view public.job_status_history with (security_invoker = true) as
with event as not materialized (
  select
    run.job_id, run.lease_id as seq, coalesce(run.from_status, 'pending') as stood, run.from_status is null as is_attempt,
    run.started_at, run.finished_at, run.worker_id, run.outcome, run.to_status, run.attempt, run.retry_at,
    coalesce(run.reason, run.error ->> 'message') as reason, run.actor
  from queue.runs as run
  union all
  select held.job_id, lease.id, 'pending', true, lease.claimed_at, null, lease.worker_id, null, null, held.attempt, null, null, null
  from queue.leases as lease, unnest(lease.job_ids, lease.attempts) as held (job_id, attempt)
  where not exists (select from queue.runs as run where run.job_id = held.job_id and run.lease_id = lease.id)
  union all
  select token.id, 9223372036854775807, 'pending', false, token.at, null, null, null, null, null, null, null, null
  from queue.ready as token
  union all
  select token.id, 9223372036854775807, 'scheduled', false, token.at, null, null, null, null, null, null, null, null
  from queue.scheduled as token
),
told as not materialized (
  select
    event.*, job.scheduled_at, job.depends_on,
    coalesce(lag(event.to_status) over earlier, job.born) as before_status,
    lag(event.retry_at) over earlier as before_retry_at
  from event join queue.jobs as job on job.id = event.job_id
  window earlier as (partition by event.job_id order by event.seq)
),
-- A blocked job that was freed before its time was scheduled in between.
moved as not materialized (
  select freed.*, freed.stood = 'pending' and freed.scheduled_at > freed.freed_at as is_twofold
  from (
    select told.*, case when told.before_status = 'blocked' then (
      select max(ended.finished_at) from queue.runs as ended
      where ended.job_id = any (told.depends_on) and ended.finished_at <= told.started_at
    ) end as freed_at
    from told where told.stood <> told.before_status
  ) as freed
),
step as not materialized (
  select job.id as job_id, 0::bigint as seq, 0 as part, null::queue.job_status as from_status,
    job.born as to_status, job.created_at as at, null::smallint as attempt, null::integer as worker_id, null::text as reason,
    null::text as actor
  from queue.jobs as job
  union all
  select moved.job_id, moved.seq, 1, moved.before_status,
    case when moved.is_twofold then 'scheduled' else moved.stood end,
    case moved.before_status
      when 'scheduled' then coalesce(moved.before_retry_at, moved.scheduled_at)
      else coalesce(moved.freed_at, moved.started_at)
    end, null, null, null, null
  from moved
  union all
  select moved.job_id, moved.seq, 2, 'scheduled', 'pending', moved.scheduled_at, null, null, null, null
  from moved where moved.is_twofold
  union all
  select told.job_id, told.seq, 3, 'pending', 'processing', told.started_at, told.attempt, told.worker_id, null, null
  from told where told.is_attempt
  union all
  select told.job_id, told.seq, 4, case when told.is_attempt then 'processing' else told.stood end, told.to_status,
    told.finished_at, told.attempt, told.worker_id, coalesce(told.reason, nullif(told.outcome::text, told.to_status::text)), told.actor
  from told where told.to_status is not null
)
select step.job_id, step.from_status::text as from_status, step.to_status::text as to_status,
  -- What came later is never told to have been earlier, also where the clock was set back in between.
  max(step.at) over (partition by step.job_id order by step.seq, step.part) as at,
  step.attempt::integer as attempt, worker.name as worker_id,
  case when not queue.is_end_user() then step.actor end as actor, step.reason, step.seq, step.part,
  case when step.part = 4 and not queue.is_end_user() then (
    select run.note from queue.runs as run where run.job_id = step.job_id and run.lease_id = step.seq
  ) end as note
from step
left join queue.workers as worker on worker.id = step.worker_id;
comment on view public.job_status_history is
  'One row for every change of a job''s status, in the order of seq and part: from, to, when, attempt, worker or person, reason, and what the handler noted.';
