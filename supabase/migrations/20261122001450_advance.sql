-- The step of a long-lived worker: what it finished is settled and its next jobs are claimed, in one call.
--   processing -> completed, scheduled, pending, failed or cancelled; pending -> processing
--
-- Locks: leases in id order, children's tokens, then tokens of the claim with skip locked.

create function queue.squeeze(p_values integer[])
returns integer[]
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
create function queue.job_columns(p_ids bigint[], p_attempts smallint[], p_leases bigint[])
returns json
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
    bool_and(fact.scheduled_at is null) as is_unscheduled
  into v_fact
  from queue.jobs as fact where fact.id = any (p_ids) and fact.id between v_first and v_last;
  v_types := queue.squeeze(v_fact.types);
  v_queues := queue.squeeze(v_fact.queues);
  v_tenants := queue.squeeze(v_fact.tenants);

  return json_build_object(
    'ids', p_ids::text[], 'attempts', queue.squeeze(p_attempts::integer[]),
    'leases', case when p_leases[1] = all (p_leases) then p_leases[1:1]::text[] else p_leases::text[] end,
    -- In an order of their own.
    'fact_ids', v_fact.ids::text[], 'payloads', v_fact.payloads,
    'types', v_types, 'queues', v_queues, 'tenants', v_tenants,
    'priorities', queue.squeeze(v_fact.priorities::integer[]),
    'max_retries', queue.squeeze(v_fact.max_retries::integer[]),
    'created', v_fact.created, 'scheduled', case when not v_fact.is_unscheduled then v_fact.scheduled end,
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
  'Claimed jobs as arrays, one for each column; an array of one stands for the same value in all jobs. Null without jobs.';

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
  p_whole_results json default null
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
  v_lost_leases bigint[];
  v_lost_ids bigint[];
  v_rest_leases bigint[];
  v_rest_ids bigint[];
  v_statuses json;
  v_lost_wholes bigint[];
  v_jobs json;
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
    select * into v_claim from queue.claim(
      p_worker, p_queue_ids, p_except_queue_ids, p_type_ids, null, p_limit, p_lease_ms, p_mark);
  else
    select null::bigint[] as o_ids, null::smallint[] as o_attempts, null::bigint[] as o_leases,
      null::timestamptz as o_expires_at, null::json as o_mark into v_claim;
  end if;

  v_jobs := case when v_claim.o_ids is not null
    then queue.job_columns(v_claim.o_ids, v_claim.o_attempts, v_claim.o_leases) end;
  -- A claim that a crash of the server takes back is one that was never made: its jobs are pending again, and its lease is not
  -- known. So a call that only claims need not wait for the disk, unless a job of it may run only once. The lease's number may
  -- be given once more then, which is why what a worker settles must be its own.
  if p_whole_leases is null and p_done_ids is null and coalesce(jsonb_array_length(p_rest), 0) = 0
    and not exists (select from json_array_elements_text(v_jobs -> 'max_retries') as job (max_retries) where job.max_retries = '0')
  then
    perform set_config('synchronous_commit', 'off', true);
  end if;

  return json_build_object(
    'refused', (
      select coalesce(json_agg(json_build_array(lost.lease_id::text, lost.job_id::text)), '[]')
      from unnest(v_lost_leases, v_lost_ids) as lost (lease_id, job_id)
    ),
    'lost', v_lost_wholes::text[],
    'statuses', coalesce(v_statuses, '{}'),
    'retry_in_ms', (
      select coalesce(json_object_agg(token.id::text,
        greatest(0, ceil(extract(epoch from token.at - queue.clock()) * 1000))), '{}')
      from queue.scheduled as token where token.id = any (v_rest_ids)
    ),
    'now', queue.epoch_ms(queue.clock()),
    'expires_at', queue.epoch_ms(v_claim.o_expires_at),
    'jobs', v_jobs,
    'mark', v_claim.o_mark,
    'next_due_in_ms', case when v_claim.o_ids is null and p_limit > 0 then (
      select greatest(0, ceil(extract(epoch from token.at - queue.clock()) * 1000))
      from queue.scheduled as token order by token.at limit 1
    ) end
  );
end;
$$;
comment on function queue.advance is
  'Settles finished jobs and claims the next in one commit. Answers which settlements were refused because their lease was lost, what became of the others, the claimed jobs, and where to go on.';
