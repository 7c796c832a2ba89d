-- The contract, part two: what operators call.

create function public.cancel_job(p_job_id bigint, p_reason text default null)
returns text
language sql volatile security invoker set search_path = pg_catalog, pg_temp
as $$ select queue.cancel(p_job_id, p_reason); $$;
comment on function public.cancel_job is
  'Cancels a waiting job at once; asks a running one to stop and answers processing. The status now; null for an unknown job.';

create function public.retry_job(p_job_id bigint, p_reason text default null, p_with_descendants boolean default false)
returns text
language sql volatile security invoker set search_path = pg_catalog, pg_temp
as $$ select queue.retry(p_job_id, p_reason, p_with_descendants); $$;
comment on function public.retry_job is
  'Runs a job now: a scheduled one without waiting, a failed or cancelled one with a fresh budget of attempts; with p_with_descendants also those that were cancelled because of it, after it. The status now; null when it can''t be retried.';

create function public.redrive_jobs(
  p_ids bigint[] default null,
  p_type text default null,
  p_tenant_id text default null,
  p_fingerprint text default null,
  p_failed_before timestamptz default null,
  p_limit integer default 1000,
  p_dry_run boolean default false,
  p_reason text default null,
  p_with_descendants boolean default false
)
returns table (id bigint, new_id bigint, type text, tenant_id text, failed_at timestamptz, last_error text)
language sql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
  select * from queue.redrive(
    p_ids, p_type, p_tenant_id, p_fingerprint, p_failed_before, coalesce(p_limit, 1000), p_dry_run, p_reason, p_with_descendants);
$$;
comment on function public.redrive_jobs is
  'Runs dead letters again, by id, type, tenant, error fingerprint or age, oldest first; a dry run only tells which. With p_with_descendants the jobs that were cancelled because of them come back too, after them.';

create function public.purge_jobs(
  p_ids bigint[] default null,
  p_type text default null,
  p_tenant_id text default null,
  p_fingerprint text default null,
  p_failed_before timestamptz default null,
  p_limit integer default 1000,
  p_dry_run boolean default false,
  p_reason text default null
)
returns integer
language sql volatile security invoker set search_path = pg_catalog, pg_temp
as $$
  select queue.purge(
    p_ids, p_type, p_tenant_id, p_fingerprint, p_failed_before, coalesce(p_limit, 1000), p_dry_run, p_reason);
$$;
comment on function public.purge_jobs is 'Deletes dead letters by the same filters as redrive_jobs; returns how many.';

create function public.pause_queue(p_queue text, p_reason text default null)
returns boolean
language sql volatile security invoker set search_path = pg_catalog, pg_temp
as $$ select queue.set_paused(p_queue, true, p_reason); $$;
comment on function public.pause_queue is 'Stops claims from a queue; running jobs go on. False when it was paused already.';

create function public.resume_queue(p_queue text)
returns boolean
language sql volatile security invoker set search_path = pg_catalog, pg_temp
as $$ select queue.set_paused(p_queue, false, null); $$;
comment on function public.resume_queue is 'Lets claims from a paused queue go on. False when it was not paused.';

create function public.explain_job(p_job_id bigint)
returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$ select queue.explain(p_job_id); $$;
comment on function public.explain_job is
  'Why a job is not running: {job_id, status, reasons: [{code, message, ...}]}; codes in docs/sql-api.md.';

create function public.queue_stats(p_queue text default null)
returns table (
  queue text, is_paused boolean, pending bigint, scheduled bigint, blocked bigint, processing bigint, fetched bigint,
  completed_last_hour bigint, failed_last_hour bigint, retried_last_hour bigint, dead_letters bigint,
  oldest_pending_seconds double precision
)
language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$ select * from queue.stats(p_queue); $$;
comment on function public.queue_stats is
  'Depth, rates of the last hour and age of the oldest pending job, for each queue. fetched: how many of the jobs in processing have not begun yet, by the workers'' last heartbeats.';

create function public.queue_health()
returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$ select queue.health(); $$;
comment on function public.queue_health is 'Whether the system is well: {status, problems: [{code, message}], ...}.';
