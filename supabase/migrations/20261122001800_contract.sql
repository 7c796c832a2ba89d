-- The contract, part one: what producers and simple workers call. Thin functions of schema public, security invoker;
-- each calls one function of schema queue. Parameters are named, there are no overloads, all but the first have
-- defaults, so that supabase.rpc('enqueue_job', { p_type: 'email', p_payload: {...} }) just works.

create function public.enqueue_job(
  p_type text,
  p_payload jsonb default '{}',
  p_priority text default 'normal',
  p_scheduled_at timestamptz default null,
  p_tenant_id text default null,
  p_queue text default null,
  p_max_retries integer default null,
  p_depends_on bigint[] default null,
  p_idempotency_key text default null,
  p_options jsonb default null
)
returns bigint
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select made.id from queue.enqueue_one(
    p_type, p_payload, p_priority, p_scheduled_at, p_tenant_id, p_queue, p_max_retries, p_depends_on,
    p_idempotency_key, p_options
  ) as made;
$$;
comment on function public.enqueue_job is
  'Enqueues one job in the caller''s transaction and returns its id; with a known idempotency key the id of the first job. Raises MR001 to MR012, MR016 and MR017, see docs/sql-api.md.';

create function public.enqueue_jobs(p_jobs jsonb)
returns table (ordinal integer, id bigint, outcome text)
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select made.ordinal, made.id, made.outcome from queue.enqueue_many(p_jobs) as made;
$$;
comment on function public.enqueue_jobs is
  'Enqueues up to 100000 jobs, all or none, in the caller''s transaction; a row for each element: its position, id, and created or existing.';

create function queue.claim_rows(
  p_worker_id text, p_types text[], p_batch integer, p_tenant_id text, p_lease_seconds numeric
)
returns table (
  id bigint, type text, queue text, priority text, payload jsonb, tenant_id text, attempt integer,
  max_retries integer, created_at timestamptz, lease_id bigint, lease_expires_at timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_claim record;
  v_worker integer;
  v_tenant integer;
begin
  if p_batch is null or p_batch not between 1 and 1000 then
    raise exception 'invalid batch: %', coalesce(p_batch::text, 'null')
      using errcode = 'MR013', detail = 'It must be from 1 to 1000.', hint = 'Claim as many as you can finish within the lease.';
  end if;
  if p_lease_seconds is null or p_lease_seconds not between 1 and 86400 then
    raise exception 'invalid lease seconds: %', coalesce(p_lease_seconds::text, 'null')
      using errcode = 'MR013', detail = 'It must be from 1 to 86400.', hint = 'Choose a little more than the longest run.';
  end if;
  v_worker := queue.sign_in(p_worker_id, p_types);
  if exists (select from queue.arrivals) then
    perform queue.adopt_arrivals();
  end if;
  if p_tenant_id is not null then
    v_tenant := (select tenant.id from queue.tenants as tenant where tenant.name = p_tenant_id);
    if v_tenant is null then
      return; -- a tenant that never had a job
    end if;
  end if;
  select * into v_claim from queue.claim(
    v_worker, null, null,
    case when p_types is not null then array(select type.id from queue.types as type where type.name = any (p_types)) end,
    v_tenant, p_batch, (p_lease_seconds * 1000)::integer, null);
  return query
  select job.id, type.name, line.name, queue.priority_name(job.priority), job.payload, tenant.name,
    held.attempt::integer, job.max_retries::integer, job.created_at, held.lease_id, v_claim.o_expires_at
  from unnest(v_claim.o_ids, v_claim.o_attempts, v_claim.o_leases) with ordinality
    as held (id, attempt, lease_id, position)
  join queue.jobs as job on job.id = held.id
  join queue.types as type on type.id = job.type_id
  join queue.queues as line on line.id = job.queue_id
  left join queue.tenants as tenant on tenant.id = job.tenant_id
  order by held.position;
end;
$$;
comment on function queue.claim_rows is 'The claim for callers that want rows. Raises MR013 for a bad worker id, batch or lease.';

create function public.get_next_job(
  p_worker_id text,
  p_types text[] default null,
  p_batch integer default 1,
  p_tenant_id text default null,
  p_lease_seconds numeric default 60
)
returns table (
  id bigint, type text, queue text, priority text, payload jsonb, tenant_id text, attempt integer,
  max_retries integer, created_at timestamptz, lease_id bigint, lease_expires_at timestamptz
)
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select * from queue.claim_rows(p_worker_id, p_types, p_batch, p_tenant_id, p_lease_seconds);
$$;
comment on function public.get_next_job is
  'Atomically claims up to p_batch pending jobs, by priority over all queues or those of some types; concurrent callers never get the same job and never wait.';

create function public.claim_next_job(
  p_worker_id text,
  p_tenant_id text default null,
  p_lease_seconds numeric default 60
)
returns table (
  id bigint, type text, queue text, priority text, payload jsonb, tenant_id text, attempt integer,
  max_retries integer, created_at timestamptz, lease_id bigint, lease_expires_at timestamptz
)
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select * from queue.claim_rows(p_worker_id, null, 1, p_tenant_id, p_lease_seconds);
$$;
comment on function public.claim_next_job is 'get_next_job for one job, of one tenant or fairly over all.';

create function queue.settle_by_job(p_lease_id bigint, p_job_id bigint, p_outcome text, p_detail jsonb, p_result jsonb)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  -- A caller whose answer got lost asks again with the same lease: it gets the same answer.
  return (
    select coalesce(
      queue.settle_one(coalesce(p_lease_id, queue.live_lease(p_job_id)), p_job_id, p_outcome, p_detail, p_result),
      (
        select run.to_status::text from queue.runs as run
        where run.job_id = p_job_id and run.lease_id = p_lease_id and run.outcome::text = p_outcome
      )
    )
  );
end;
$$;
comment on function queue.settle_by_job is 'settle_one for callers that may not know the lease, or ask again because the answer got lost.';

create function public.complete_job(p_job_id bigint, p_result jsonb default null, p_lease_id bigint default null)
returns boolean
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select queue.settle_by_job(p_lease_id, p_job_id, 'completed', null, p_result) is not null;
$$;
comment on function public.complete_job is
  'Marks a job as completed, with its result. False when the lease was lost; without p_lease_id it settles the job''s live lease.';

create function public.fail_job(
  p_job_id bigint,
  p_error text default null,
  p_retryable boolean default true,
  p_retry_after_seconds numeric default null,
  p_lease_id bigint default null
)
returns text
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select queue.settle_by_job(p_lease_id, p_job_id, 'failed', jsonb_build_object(
    'error', jsonb_build_object('message', left(coalesce(p_error, 'unknown error'), 8192)),
    'retryable', coalesce(p_retryable, true),
    -- Bounded here: this must end the attempt whatever number a provider's answer held.
    'delay_ms', case when p_retry_after_seconds <> 'NaN' then least(greatest(p_retry_after_seconds, 0), 3155760000) * 1000 end
  ), null);
$$;
comment on function public.fail_job is
  'Ends an attempt as failed: a retry with backoff, or the dead letters. Returns the job''s new status, null when the lease was lost.';

create function queue.cleanup()
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_total integer := 0;
  v_count integer;
begin
  loop
    v_count := queue.rescue(100);
    v_total := v_total + v_count;
    exit when v_count = 0;
  end loop;
  -- Bounded, because somebody waits for the answer; the next call goes on.
  for v_slice in 1..10 loop
    exit when queue.sweep_racing() = 0;
  end loop;
  return v_total;
end;
$$;
comment on function queue.cleanup is 'Rescues all expired leases.';

create function public.cleanup_stuck_jobs()
returns integer
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select queue.cleanup();
$$;
comment on function public.cleanup_stuck_jobs is
  'Returns jobs of expired leases to the queue, or to the dead letters when their attempts are used up; how many jobs.';

create function public.report_progress(
  p_job_id bigint,
  p_percent numeric default null,
  p_message text default null,
  p_data jsonb default null,
  p_lease_id bigint default null
)
returns boolean
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select queue.report(p_job_id, p_percent, p_message, p_data, p_lease_id);
$$;
comment on function public.report_progress is
  'Stores how far a running job is (0 to 100, a message, data; null keeps the last); false when the lease was lost.';
