-- The step of a long-lived worker: what it finished is settled and its next jobs are claimed, in one call.
--   processing -> completed, scheduled, pending, failed or cancelled; pending -> processing
--
-- Who finds nothing to claim looks for leases that ran out: processing -> pending, failed or cancelled.
--
-- Locks: leases in id order, children's tokens, then tokens of the claim or expired leases, all with skip locked.

-- A worker whose answer got lost settles again: what stands already as it wanted is not refused.
create function queue.was_settled(p_lease_id bigint, p_job_id bigint, p_outcome text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
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

-- A lease that somebody else held when this call came by still has the job: its end is told again later.
create function queue.is_unsettled(p_lease_id bigint, p_job_id bigint, p_worker integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from queue.leases as lease
    where lease.id = p_lease_id and lease.worker_id = p_worker and not lease.is_handed_over
      and p_job_id = any (lease.job_ids)
  ) and not exists (
    select from queue.runs as run where run.job_id = p_job_id and run.lease_id = p_lease_id
  );
end;
$$;
comment on function queue.is_unsettled is 'True while this worker''s lease holds the job and the attempt has not ended.';

-- Two looks around the caller's own number: its own leases are most of what the index holds, dead entries included.
create function queue.is_alone(p_worker integer)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
  v_whole record;
  v_lost_wholes bigint[];
  v_whole_busy bigint[];
  v_busy json;
  v_is_settling boolean := p_whole_leases is not null or p_done_ids is not null or p_rest is not null;
  v_jobs json;
  v_may_run_once boolean := false;
  v_refused json := json_build_array();
  v_retries json := json_build_object();
  v_next_due_in_ms numeric;
  v_is_alone boolean := false;
  v_is_cut boolean := false;
  v_now timestamptz;
  v_from timestamptz;
  v_read bigint;
  v_is_late boolean;
begin
  if p_whole_leases is not null then
    v_whole := queue.complete_leases(
      p_whole_leases, p_whole_sizes, p_whole_elapsed_ms, p_whole_results, p_worker);
    v_lost_wholes := v_whole.o_lost;
    v_whole_busy := v_whole.o_busy;
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
    -- Not with a mark: where there is much to do, one look in 200 ms is enough.
    if (p_mark is null or p_mark -> 'sweep' is not null) and exists (select from queue.arrivals) then
      perform queue.adopt_arrivals();
    end if;
    if p_per_tenant is not null then
      v_claim := queue.claim_share(
        p_worker, p_queue_ids, p_except_queue_ids, p_type_ids, p_tenant_id, p_per_tenant, p_limit, p_lease_ms, p_mark);
    else
      -- A mark is a place in a lane, which in a queue that is first in, first out is not the tenant's own.
      v_claim := queue.claim(
        p_worker, p_queue_ids, p_except_queue_ids, p_type_ids, p_tenant_id, p_limit, p_lease_ms,
        case when p_tenant_id is null or p_mark -> 'ranks' is not null then p_mark end);
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
        -- Payloads of 4 MiB: the process of the server needs some ten times as much to send them.
        v_many := queue.job_columns(v_ids, v_claim.o_attempts, v_claim.o_leases, 4194304);
        v_jobs := v_many.o_jobs;
        v_may_run_once := v_many.o_may_run_once;
        v_is_cut := v_many.o_count < cardinality(v_ids);
      end if;
      if v_is_cut then
        perform queue.put_back_claimed(
          v_ids[v_many.o_count + 1:], v_claim.o_attempts[v_many.o_count + 1:], v_claim.o_leases[v_many.o_count + 1:]);
        v_ids := v_ids[:v_many.o_count];
        -- They stand before the mark; a mark that counts what tenants had stays as it is.
        if p_per_tenant is null then
          v_mark := '{}';
        end if;
      end if;
      if cardinality(v_ids) = p_limit then
        v_is_alone := queue.is_alone(p_worker);
      end if;
    end if;
  end if;
  -- A claim that a crash of the server takes back is one that was never made: its jobs are pending again, and its lease is not
  -- known. So a call that only claims need not wait for the disk, unless a job of it may run only once. The lease's number is
  -- not given again all the same: after a start of the server the ids move on.
  if not v_is_settling and not v_may_run_once then
    perform set_config('synchronous_commit', 'off', true);
  end if;

  if v_lost_ids is not null then
    select
      coalesce(json_agg(json_build_array(lost.lease_id::text, lost.job_id::text)) filter (where not lost.is_busy), '[]'),
      json_agg(json_build_array(lost.lease_id::text, lost.job_id::text)) filter (where lost.is_busy)
    into v_refused, v_busy
    from (
      select given.*, queue.is_unsettled(given.lease_id, given.job_id, p_worker) as is_busy
      from unnest(v_lost_leases, v_lost_ids) as given (lease_id, job_id)
    ) as lost;
  end if;
  if v_rest_ids is not null then
    select coalesce(json_object_agg(token.id::text,
      greatest(0, ceil(extract(epoch from token.at - queue.clock()) * 1000))), '{}') into v_retries
    from queue.scheduled as token where token.id = any (v_rest_ids);
  end if;
  if v_ids is null and p_limit > 0 then
    v_now := queue.clock();
    -- Not the caller's own: it lives, and may be about to extend them after it was busy for longer than they last. What was offered to it
    -- without an answer it may never have heard of.
    v_from := queue.look_from('queue.expiry_mark');
    v_read := pg_stat_get_xact_tuples_returned('queue.leases_expiry_idx'::regclass);
    v_is_late := exists (
      select from queue.leases as late
      where late.expires_at >= v_from and late.expires_at < v_now and (late.worker_id <> p_worker or late.is_offered)
    );
    if not v_is_late and v_from = '-infinity'
      and pg_stat_get_xact_tuples_returned('queue.leases_expiry_idx'::regclass) - v_read > 2000
      -- The caller's own were passed over, but are for others to find.
      and not exists (select from queue.leases as own where own.expires_at < v_now)
    then
      perform queue.note_look('queue.expiry_mark', v_now);
    end if;
    if v_is_late and queue.rescue(p_except => p_worker) > 0 then
      v_next_due_in_ms := 0;
    else
      v_from := queue.look_from('queue.due_mark');
      select greatest(0, ceil(extract(epoch from token.at - v_now) * 1000)) into v_next_due_in_ms
      from queue.scheduled as token where token.at > v_from order by token.at limit 1;
    end if;
  end if;
  return json_build_object(
    'refused', v_refused, 'lost', v_lost_wholes::text[], 'busy_leases', v_whole_busy::text[], 'busy', v_busy, 'statuses', coalesce(v_statuses, '{}'), 'retry_in_ms', v_retries,
    'now', queue.epoch_ms(queue.clock()), 'expires_at', queue.epoch_ms(v_expires_at),
    'jobs', v_jobs, 'is_cut', v_is_cut, 'mark', v_mark, 'next_due_in_ms', v_next_due_in_ms,
    'has_children_left', v_is_settling and exists (select from queue.fanouts),
    -- There is more than was taken, and no other worker has claimed within the last second.
    'is_alone', v_is_alone
  );
end;
$$;
comment on function queue.advance is
  'Settles finished jobs and claims the next in one commit. Answers which settlements were refused because their lease was lost, which are to be told again because somebody else holds their lease, what became of the others, the claimed jobs, and where to go on.';
