-- The contract, part two: what operators call, and the doorbell.

create function public.cancel_job(p_job_id bigint, p_reason text default null)
returns text
language sql volatile security invoker set search_path = ''
as $$ select queue.cancel(p_job_id, p_reason); $$;
comment on function public.cancel_job is
  'Cancels a waiting job at once; asks a running one to stop and answers processing. The status now; null for an unknown job.';

create function public.retry_job(p_job_id bigint, p_reason text default null)
returns text
language sql volatile security invoker set search_path = ''
as $$ select queue.retry(p_job_id, p_reason); $$;
comment on function public.retry_job is
  'Runs a job now: a scheduled one without waiting, a failed or cancelled one with a fresh budget of attempts. The status now; null when it can''t be retried.';

create function public.redrive_jobs(
  p_ids bigint[] default null,
  p_type text default null,
  p_tenant_id text default null,
  p_fingerprint text default null,
  p_failed_before timestamptz default null,
  p_limit integer default 1000,
  p_dry_run boolean default false,
  p_reason text default null
)
returns table (id bigint, new_id bigint, type text, tenant_id text, failed_at timestamptz, last_error text)
language sql volatile security invoker set search_path = ''
as $$
  select * from queue.redrive(
    p_ids, p_type, p_tenant_id, p_fingerprint, p_failed_before, p_limit, p_dry_run, p_reason);
$$;
comment on function public.redrive_jobs is
  'Runs dead letters again, by id, type, tenant, error fingerprint or age, oldest first; a dry run only tells which.';

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
language sql volatile security invoker set search_path = ''
as $$
  select queue.purge(
    p_ids, p_type, p_tenant_id, p_fingerprint, p_failed_before, p_limit, p_dry_run, p_reason);
$$;
comment on function public.purge_jobs is 'Deletes dead letters by the same filters as redrive_jobs; returns how many.';

create function public.pause_queue(p_queue text, p_reason text default null)
returns boolean
language sql volatile security invoker set search_path = ''
as $$ select queue.set_paused(p_queue, true, p_reason); $$;
comment on function public.pause_queue is 'Stops claims from a queue; running jobs go on. False when it was paused already.';

create function public.resume_queue(p_queue text)
returns boolean
language sql volatile security invoker set search_path = ''
as $$ select queue.set_paused(p_queue, false, null); $$;
comment on function public.resume_queue is 'Lets claims from a paused queue go on. False when it was not paused.';

create function public.explain_job(p_job_id bigint)
returns jsonb
language sql stable security invoker set search_path = ''
as $$ select queue.explain(p_job_id); $$;
comment on function public.explain_job is
  'Why a job is not running: {job_id, status, reasons: [{code, message, ...}]}; codes in docs/sql-api.md.';

create function public.queue_stats(p_queue text default null)
returns table (
  queue text, is_paused boolean, pending bigint, scheduled bigint, blocked bigint, processing bigint,
  completed_last_hour bigint, failed_last_hour bigint, retried_last_hour bigint, dead_letters bigint,
  oldest_pending_seconds double precision
)
language sql stable security invoker set search_path = ''
as $$ select * from queue.stats(p_queue); $$;
comment on function public.queue_stats is 'Depth, rates of the last hour and age of the oldest pending job, for each queue.';

create function public.queue_health()
returns jsonb
language sql stable security invoker set search_path = ''
as $$ select queue.health(); $$;
comment on function public.queue_health is 'Whether the system is well: {status, problems: [{code, message}], ...}.';

-- pg_net sends after commit; the job's row stays the truth, so a lost ring costs only the time to the next one.
create function queue.trigger_worker(p_action text, p_type text, p_batch integer)
returns text
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  v_url text;
  v_token text;
begin
  if cardinality(queue.lines(null, null, null)) = 0
    and not exists (select from queue.scheduled as token where token.at <= queue.clock())
    and not exists (select from queue.leases as lease where lease.expires_at < queue.clock())
  then
    return 'idle';
  end if;
  if to_regclass('net.http_request_queue') is null or to_regclass('vault.decrypted_secrets') is null then
    return 'unavailable';
  end if;
  select secret.decrypted_secret into v_url from vault.decrypted_secrets as secret where secret.name = 'queue_worker_url';
  select secret.decrypted_secret into v_token from vault.decrypted_secrets as secret where secret.name = 'queue_worker_token';
  if v_url is null or v_token is null then
    return 'unconfigured';
  end if;
  perform net.http_post(
    url => v_url,
    body => jsonb_build_object('action', p_action, 'type', p_type, 'batch', p_batch),
    headers => jsonb_build_object('Content-Type', 'application/json', 'X-Queue-Token', v_token),
    timeout_milliseconds => 5000
  );
  return 'rung';
exception
  when others then
    -- The doorbell never fails its caller: a job in the queue is worth more than a ring.
    raise warning 'queue worker was not triggered: %', sqlerrm;
    return 'failed';
end;
$$;
comment on function queue.trigger_worker is 'Posts to the Edge worker when work is due: rung, idle, unavailable (no pg_net or Vault), unconfigured or failed.';

create function public.trigger_queue_worker(
  p_action text default 'process', p_type text default null, p_batch integer default 5
)
returns text
language sql volatile security invoker set search_path = ''
as $$ select queue.trigger_worker(p_action, p_type, p_batch); $$;
comment on function public.trigger_queue_worker is
  'Wakes the Edge worker over HTTP when work is due; never raises. Answers rung, idle, unavailable, unconfigured or failed.';
