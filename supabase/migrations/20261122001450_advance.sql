-- The step of a long-lived worker: what it finished is settled and its next jobs are claimed, in one call.
--   processing -> completed, scheduled, pending, failed or cancelled; pending -> processing
--
-- Locks: leases in id order, children's tokens, then tokens of the claim with skip locked.

-- The text of the JSON is put together by hand, and names are escaped once: json_build_array() for each job costs more
-- than finding it.
create function queue.job_rows(p_ids bigint[], p_attempts smallint[], p_leases bigint[])
returns json
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
set enable_mergejoin = off
set enable_nestloop = off
set jit = off
as $$
declare
  v_first bigint := (select min(given.id) from unnest(p_ids) as given (id));
  v_last bigint := (select max(given.id) from unnest(p_ids) as given (id));
begin
  return (
    -- One index scan for all ids and a hash join: a nested loop would open every partition anew for each job. The
    -- bounds are for the planner: it prunes partitions by them, and not by an array.
    with fact as materialized (
      select job.* from queue.jobs as job where job.id = any (p_ids) and job.id between v_first and v_last
    ),
    held as materialized (
      select held.*, fact.type_id, fact.queue_id, fact.tenant_id, fact.priority, fact.payload, fact.max_retries,
        fact.options, fact.created_at, fact.scheduled_at
      from unnest(p_ids, p_attempts, p_leases) with ordinality as held (id, attempt, lease_id, position)
      join fact on fact.id = held.id
    ),
    type as materialized (
      select known.id, to_json(known.name)::text as name from queue.types as known
      where known.id in (select held.type_id from held)
    ),
    line as materialized (
      select known.id, to_json(known.name)::text as name from queue.queues as known
      where known.id in (select held.queue_id from held)
    ),
    tenant as materialized (
      select known.id, to_json(known.name)::text as name from queue.tenants as known
      where known.id in (select held.tenant_id from held)
    )
    select ('[' || coalesce(string_agg(concat(
      '["', held.lease_id, '","', held.id, '",', type.name, ',', line.name, ',"',
      (array['critical', 'high', 'normal', 'low'])[held.priority + 1], '",', held.payload, ',',
      coalesce(tenant.name, 'null'), ',', held.attempt, ',', held.max_retries, ',',
      floor(date_part('epoch', held.created_at) * 1000)::bigint, ',',
      coalesce(floor(date_part('epoch', held.scheduled_at) * 1000)::bigint::text, 'null'), ',',
      coalesce(held.options::text, 'null'), ']'
    ), ',' order by held.position), '') || ']')::json
    from held
    join type on type.id = held.type_id
    join line on line.id = held.queue_id
    left join tenant on tenant.id = held.tenant_id
  );
end;
$$;
comment on function queue.job_rows is 'Claimed jobs as a JSON array of arrays, in the order given.';

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
  p_mark json default null
)
returns json
language plpgsql
volatile
security definer
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  v_done record;
  v_claim record;
  v_lost_leases bigint[];
  v_lost_ids bigint[];
  v_rest_leases bigint[];
  v_rest_ids bigint[];
  v_statuses json;
begin
  -- All leases of this call are locked at once and in id order: the two halves may name them crosswise.
  if cardinality(p_done_ids) > 0 and jsonb_array_length(p_rest) > 0 then
    perform queue.lock_leases(p_done_leases || array(
      select item.lease from jsonb_to_recordset(p_rest) as item (lease bigint)));
  end if;
  if cardinality(p_done_ids) > 0 then
    select * into v_done from queue.complete_many(p_done_leases, p_done_ids, p_done_elapsed_ms, p_done_results);
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
    from queue.settle(p_rest) as settled;
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

  return json_build_object(
    'refused', (
      select coalesce(json_agg(json_build_array(lost.lease_id::text, lost.job_id::text)), '[]')
      from unnest(v_lost_leases, v_lost_ids) as lost (lease_id, job_id)
    ),
    'statuses', coalesce(v_statuses, '{}'),
    'retry_in_ms', (
      select coalesce(json_object_agg(token.id::text,
        greatest(0, ceil(extract(epoch from token.at - queue.clock()) * 1000))), '{}')
      from queue.scheduled as token where token.id = any (v_rest_ids)
    ),
    'now', queue.epoch_ms(queue.clock()),
    'expires_at', queue.epoch_ms(v_claim.o_expires_at),
    'jobs', case when v_claim.o_ids is null then '[]'
      else queue.job_rows(v_claim.o_ids, v_claim.o_attempts, v_claim.o_leases) end,
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
