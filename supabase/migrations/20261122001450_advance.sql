-- The step of a long-lived worker: what it finished is settled and its next jobs are claimed, in one call.
--   processing -> completed, scheduled, pending, failed or cancelled; pending -> processing
--
-- Who finds nothing to claim looks for leases that ran out: processing -> pending, failed or cancelled.
--
-- Locks: leases in id order, children's tokens, then tokens of the claim or expired leases, with skip locked.

create function queue.squeeze(p_values bigint[])
returns bigint[]
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
begin
  if p_values[1] = all (p_values) then
    return p_values[1:1];
  end if;
  return p_values;
end;
$$;
comment on function queue.squeeze is 'One element for an array whose elements are all the same.';

-- By columns, and what is the same for all jobs once: a JSON object for each job would cost more than finding it. The payloads are
-- put together without being parsed again.
create function queue.job_columns(
  p_ids bigint[], p_attempts smallint[], p_leases bigint[],
  out o_jobs json, out o_may_run_once boolean
)
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_first bigint := (select min(given.id) from unnest(p_ids) as given (id));
  v_last bigint := (select max(given.id) from unnest(p_ids) as given (id));
  -- Mostly the ids follow on each other: then one walk through the index finds all.
  v_is_run boolean := v_last - v_first + 1 = cardinality(p_ids);
  v_is_same_order boolean;
  v_fact record;
  v_types integer[];
  v_queues integer[];
  v_tenants integer[];
begin
  -- The bounds are for the planner: it prunes partitions by them, and not by an array.
  select
    array_agg(fact.id) as ids, json_agg(fact.payload) as payloads,
    array_agg(fact.type_id) as types, array_agg(fact.queue_id) as queues, array_agg(fact.tenant_id) as tenants,
    array_agg(fact.priority) as priorities, array_agg(fact.max_retries) as max_retries,
    array_agg(floor(date_part('epoch', fact.created_at) * 1000)::bigint) as created,
    array_agg(floor(date_part('epoch', fact.scheduled_at) * 1000)::bigint) as scheduled,
    json_agg(fact.options) filter (where fact.options is not null) as options,
    array_agg(fact.id) filter (where fact.options is not null) as with_options,
    bool_and(fact.scheduled_at is null) as is_unscheduled,
    bool_or(fact.max_retries = 0) as may_run_once
  into v_fact
  from (
    select job.* from queue.jobs as job
    where v_is_run and job.id between v_first and v_last
    union all
    select job.* from queue.jobs as job
    where not v_is_run and job.id = any (p_ids) and job.id between v_first and v_last
  ) as fact;
  v_types := queue.squeeze(v_fact.types::bigint[]);
  v_queues := queue.squeeze(v_fact.queues::bigint[]);
  v_tenants := queue.squeeze(v_fact.tenants::bigint[]);

  o_may_run_once := v_fact.may_run_once;
  v_is_same_order := coalesce(v_fact.ids = p_ids, false);
  o_jobs := json_build_object(
    'first', case when v_is_run and v_is_same_order then v_first::text end,
    'ids', case when not v_is_run or not v_is_same_order then p_ids::text[] end,
    'attempts', queue.squeeze(p_attempts::bigint[]), 'leases', queue.squeeze(p_leases)::text[],
    -- All that follows is in the order of these.
    'fact_ids', case when not v_is_same_order then coalesce(v_fact.ids, '{}')::text[] end, 'payloads', v_fact.payloads,
    'types', v_types, 'queues', v_queues, 'tenants', v_tenants,
    'priorities', queue.squeeze(v_fact.priorities::bigint[]),
    'max_retries', queue.squeeze(v_fact.max_retries::bigint[]),
    'created', queue.squeeze(v_fact.created), 'scheduled', case when not v_fact.is_unscheduled then v_fact.scheduled end,
    'options', v_fact.options, 'with_options', v_fact.with_options::text[],
    'type_names', (
      select json_object_agg(known.id, known.name) from queue.types as known where known.id = any (v_types)
    ),
    'queue_names', (
      select json_object_agg(known.id, known.name) from queue.queues as known where known.id = any (v_queues)
    ),
    'tenant_names', (
      select json_object_agg(known.id, known.name) from queue.tenants as known where known.id = any (v_tenants)
    )
  );
end;
$$;
comment on function queue.job_columns is
  'Claimed jobs as arrays, one for each column; an array of one stands for the same value in all jobs, and a first id for ids that follow on each other. And whether one of the jobs has no retries.';

-- The same for one job, which is what an idle queue has.
create function queue.single_job(
  p_id bigint, p_attempt smallint, p_lease_id bigint,
  out o_jobs json, out o_may_run_once boolean
)
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  select
    json_build_object(
      'ids', json_build_array(p_id::text), 'attempts', json_build_array(p_attempt),
      'leases', json_build_array(p_lease_id::text), 'payloads', json_build_array(job.payload),
      'types', json_build_array(type.id), 'queues', json_build_array(line.id), 'tenants', json_build_array(job.tenant_id),
      'priorities', json_build_array(job.priority), 'max_retries', json_build_array(job.max_retries),
      'created', json_build_array(queue.epoch_ms(job.created_at)),
      'scheduled', case when job.scheduled_at is not null then json_build_array(queue.epoch_ms(job.scheduled_at)) end,
      'options', case when job.options is not null then json_build_array(job.options) end,
      'with_options', case when job.options is not null then json_build_array(p_id::text) end,
      'type_names', json_build_object(type.id, type.name), 'queue_names', json_build_object(line.id, line.name),
      'tenant_names', case when job.tenant_id > 0 then json_build_object(job.tenant_id, (
        select tenant.name from queue.tenants as tenant where tenant.id = job.tenant_id
      )) end
    ), job.max_retries = 0
  into o_jobs, o_may_run_once
  from queue.jobs as job
  join queue.types as type on type.id = job.type_id
  join queue.queues as line on line.id = job.queue_id
  where job.id = p_id;
end;
$$;
comment on function queue.single_job is 'What job_columns returns, for one job.';

-- A worker whose answer got lost settles again: what stands already as it wanted is not refused.
create function queue.was_settled(p_lease_id bigint, p_job_id bigint, p_outcome text)
returns boolean
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
begin
  return (
    select exists (
      select from queue.runs as run
      where run.job_id = p_job_id and run.lease_id = p_lease_id
        and run.outcome::text = case p_outcome when 'discarded' then 'failed' else p_outcome end
    )
  );
end;
$$;
comment on function queue.was_settled is 'True when this attempt has ended in this way already.';

-- Two looks around the caller's own number: its own leases are most of what the index holds, dead entries included.
create function queue.is_alone(p_worker integer)
returns boolean
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_since timestamptz := queue.clock() - interval '1 second';
begin
  return not exists (
    select from queue.leases as held where held.worker_id < p_worker and held.claimed_at > v_since
  ) and not exists (
    select from queue.leases as held where held.worker_id > p_worker and held.claimed_at > v_since
  );
end;
$$;
comment on function queue.is_alone is 'True when no other worker holds a lease that it claimed within the last second.';

-- The heart of a worker: settles what it finished and claims what is next, in one round trip and one commit.
create function queue.advance(
  p_worker integer,
  p_done_leases bigint[] default null,
  p_done_ids bigint[] default null,
  p_done_elapsed_ms integer[] default null,
  p_done_results json default null,
  p_rest jsonb default null,
  p_limit integer default 0,
  p_queue_ids integer[] default null,
  p_except_queue_ids integer[] default null,
  p_type_ids integer[] default null,
  p_lease_ms integer default 30000,
  p_mark json default null,
  p_whole_leases bigint[] default null,
  p_whole_sizes integer[] default null,
  p_whole_elapsed_ms integer[] default null,
  p_whole_results json default null,
  p_tenant_id integer default null,
  p_per_tenant integer default null
)
returns json
language plpgsql
volatile
security definer
set search_path = ''
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_done record;
  v_claim record;
  v_single record;
  v_many record;
  v_ids bigint[];
  v_expires_at timestamptz;
  v_mark json;
  v_lost_leases bigint[];
  v_lost_ids bigint[];
  v_rest_leases bigint[];
  v_rest_ids bigint[];
  v_statuses json;
  v_lost_wholes bigint[];
  v_is_settling boolean := p_whole_leases is not null or p_done_ids is not null or p_rest is not null;
  v_jobs json;
  v_may_run_once boolean := false;
  v_refused json := json_build_array();
  v_retries json := json_build_object();
  v_next_due_in_ms numeric;
  v_is_alone boolean := false;
  v_now timestamptz;
begin
  -- All leases of this call are locked at once and in id order: its parts may name them crosswise.
  if (p_whole_leases is not null)::integer + (p_done_ids is not null)::integer
    + (jsonb_array_length(p_rest) > 0)::integer > 1
  then
    perform queue.lock_leases(p_whole_leases || p_done_leases || array(
      select item.lease from jsonb_to_recordset(p_rest) as item (lease bigint)));
  end if;
  if p_whole_leases is not null then
    v_lost_wholes := queue.complete_leases(
      p_whole_leases, p_whole_sizes, p_whole_elapsed_ms, p_whole_results, p_worker);
  end if;
  if cardinality(p_done_ids) > 0 then
    select * into v_done from queue.complete_many(
      p_done_leases, p_done_ids, p_done_elapsed_ms, p_done_results, p_worker);
    if coalesce(cardinality(v_done.o_done), 0) < cardinality(p_done_ids) then
      select array_agg(lost.lease_id), array_agg(lost.job_id) into v_lost_leases, v_lost_ids
      from (
        select * from unnest(p_done_leases, p_done_ids) as given (lease_id, job_id)
        except
        select * from unnest(v_done.o_done_leases, v_done.o_done)
      ) as lost
      where not queue.was_settled(lost.lease_id, lost.job_id, 'completed');
    end if;
  end if;

  if jsonb_array_length(p_rest) > 0 then
    select array_agg(settled.lease_id), array_agg(settled.job_id),
      json_object_agg(settled.job_id::text, settled.to_status)
    into v_rest_leases, v_rest_ids, v_statuses
    from queue.settle(p_rest, p_worker) as settled;
    select v_lost_leases || array_agg(lost.lease), v_lost_ids || array_agg(lost.id)
    into v_lost_leases, v_lost_ids
    from jsonb_to_recordset(p_rest) as lost (lease bigint, id bigint, outcome text)
    where (lost.lease, lost.id) not in (select * from unnest(v_rest_leases, v_rest_ids))
      and not queue.was_settled(lost.lease, lost.id, lost.outcome);
  end if;

  if p_limit > 0 then
    if p_per_tenant is not null then
      v_claim := queue.claim_share(
        p_worker, p_queue_ids, p_except_queue_ids, p_type_ids, p_tenant_id, p_per_tenant, p_limit, p_lease_ms, p_mark);
    else
      -- A mark is a place in a lane, which in a queue that is first in, first out is not the tenant's own.
      v_claim := queue.claim(
        p_worker, p_queue_ids, p_except_queue_ids, p_type_ids, p_tenant_id, p_limit, p_lease_ms,
        case when p_tenant_id is null then p_mark end);
    end if;
    v_ids := v_claim.o_ids;
    v_expires_at := v_claim.o_expires_at;
    v_mark := v_claim.o_mark;
    if v_ids is not null then
      if cardinality(v_ids) = 1 then
        v_single := queue.single_job(v_ids[1], v_claim.o_attempts[1], v_claim.o_leases[1]);
        v_jobs := v_single.o_jobs;
        v_may_run_once := v_single.o_may_run_once;
      else
        v_many := queue.job_columns(v_ids, v_claim.o_attempts, v_claim.o_leases);
        v_jobs := v_many.o_jobs;
        v_may_run_once := v_many.o_may_run_once;
      end if;
      if cardinality(v_ids) = p_limit then
        v_is_alone := queue.is_alone(p_worker);
      end if;
    end if;
  end if;
  -- A claim that a crash of the server takes back is one that was never made: its jobs are pending again, and its lease is not
  -- known. So a call that only claims need not wait for the disk, unless a job of it may run only once. The lease's number may
  -- be given once more then, which is why what a worker settles must be its own.
  if not v_is_settling and not v_may_run_once then
    perform set_config('synchronous_commit', 'off', true);
  end if;

  if v_lost_ids is not null then
    select json_agg(json_build_array(lost.lease_id::text, lost.job_id::text)) into v_refused
    from unnest(v_lost_leases, v_lost_ids) as lost (lease_id, job_id);
  end if;
  if v_rest_ids is not null then
    select coalesce(json_object_agg(token.id::text,
      greatest(0, ceil(extract(epoch from token.at - queue.clock()) * 1000))), '{}') into v_retries
    from queue.scheduled as token where token.id = any (v_rest_ids);
  end if;
  if v_ids is null and p_limit > 0 then
    v_now := queue.clock();
    if exists (select from queue.leases as late where late.expires_at < v_now) and queue.rescue() > 0 then
      v_next_due_in_ms := 0;
    else
      select greatest(0, ceil(extract(epoch from token.at - v_now) * 1000)) into v_next_due_in_ms
      from queue.scheduled as token order by token.at limit 1;
    end if;
  end if;
  return json_build_object(
    'refused', v_refused, 'lost', v_lost_wholes::text[], 'statuses', coalesce(v_statuses, '{}'), 'retry_in_ms', v_retries,
    'now', queue.epoch_ms(queue.clock()), 'expires_at', queue.epoch_ms(v_expires_at),
    'jobs', v_jobs, 'mark', v_mark, 'next_due_in_ms', v_next_due_in_ms,
    -- There is more than was taken, and no other worker has claimed within the last second.
    'is_alone', v_is_alone
  );
end;
$$;
comment on function queue.advance is
  'Settles finished jobs and claims the next in one commit. Answers which settlements were refused because their lease was lost, what became of the others, the claimed jobs, and where to go on.';
