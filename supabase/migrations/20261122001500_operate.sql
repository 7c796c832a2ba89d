-- What operators do to jobs and queues. Each act on a job leaves a run row (the status history) and an audit row.
--   blocked | scheduled | pending -> cancelled     cancel_job
--   processing -> processing, then cancelled       cancel_job asks the handler to stop
--   scheduled -> pending                           retry_job
--   failed | cancelled -> pending                  retry_job: with a fresh budget of attempts
--
-- Locks: the job's lease or token, then children's tokens with skip locked. A revival: dead letters in id order, then as hold_ended says.

-- Takes a job's token out of whatever table it stands in.
create function queue.pull_token(p_job_id bigint, out o_status queue.job_status, out o_attempt smallint)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  delete from queue.ready as token where token.id = p_job_id returning queue.job_status 'pending', token.attempt into o_status, o_attempt;
  if o_status is null then
    delete from queue.scheduled as token where token.id = p_job_id
    returning queue.job_status 'scheduled', token.attempt into o_status, o_attempt;
  end if;
  if o_status is null then
    delete from queue.waiting as token where token.id = p_job_id
    returning queue.job_status 'blocked', token.attempt into o_status, o_attempt;
  end if;
  if o_status is null then
    -- It may have been promoted between the looks.
    delete from queue.ready as token where token.id = p_job_id returning queue.job_status 'pending', token.attempt into o_status, o_attempt;
  end if;
end;
$$;
comment on function queue.pull_token is 'Deletes a job''s token; its status before, or null when it has none.';

create function queue.record_act(
  p_job_id bigint, p_outcome queue.run_outcome, p_from queue.job_status, p_to queue.job_status,
  p_attempt smallint, p_reason text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := queue.clock();
begin
  insert into queue.runs (
    job_id, lease_id, started_at, finished_at, outcome, to_status, attempt, from_status, reason, actor
  )
  values (
    p_job_id, nextval('queue.lease_ids'), v_now, v_now, p_outcome, p_to, p_attempt, p_from, left(p_reason, 8192), queue.actor()
  );
  perform queue.note(p_outcome::text, p_job_id, jsonb_build_object('from', p_from, 'to', p_to, 'reason', p_reason));
end;
$$;
comment on function queue.record_act is 'Writes what an operator did to a job''s status: one run row, one audit row.';

create function queue.cancel(p_job_id bigint, p_reason text)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token record;
  v_lease_id bigint;
  v_status queue.job_status;
begin
  if queue.cancel_arrival(p_job_id, p_reason) then
    return 'cancelled';
  end if;
  -- While we waited for its token or lease the job may have moved on, to a retry for example: then we look again.
  for v_look in 1..5 loop
    select * into v_token from queue.pull_token(p_job_id);
    if v_token.o_status is not null then
      perform queue.record_act(p_job_id, 'cancelled', v_token.o_status, 'cancelled', v_token.o_attempt, p_reason);
      perform queue.after_end(array[p_job_id], array['cancelled'::queue.job_status]);
      return 'cancelled';
    end if;

    v_lease_id := queue.live_lease(p_job_id);
    -- The lease is locked, so that an end in flight either comes first or sees the request. In this mode its worker can extend it.
    perform from queue.leases as lease where lease.id = v_lease_id for key share;
    if found and queue.live_lease(p_job_id) = v_lease_id then
      insert into queue.cancellations (job_id, requested_at, requested_by, reason)
      values (p_job_id, queue.clock(), queue.caller_role(), left(p_reason, 8192))
      on conflict do nothing;
      perform queue.note('cancel_requested', p_job_id, jsonb_build_object('reason', p_reason));
      if queue.may_notify() then
        perform pg_notify('millrace', format('c:%s:%s', v_lease_id, p_job_id));
      end if;
      return 'processing';
    end if;
    v_status := queue.status_of(p_job_id);
    exit when v_status is null or v_status in ('completed', 'failed', 'cancelled');
  end loop;
  return v_status::text;
end;
$$;
comment on function queue.cancel is
  'Cancels a waiting job at once and asks a running one to stop; returns the status now, null for an unknown job.';

create function queue.put_ready(p_job_id bigint, p_attempt smallint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
  v_queue_id integer;
  v_type_id integer;
begin
  insert into queue.ready (id, at, queue_id, lane, type_id, priority, attempt)
  select job.id, queue.clock(), job.queue_id, case when line.is_fifo then 0 else job.tenant_id end,
    job.type_id, job.priority, p_attempt
  from queue.jobs as job join queue.queues as line on line.id = job.queue_id
  where job.id = p_job_id
  returning queue_id, type_id into v_queue_id, v_type_id;
  perform queue.ring(v_queue_id, 1, array[v_type_id]);
end;
$$;
comment on function queue.put_ready is 'Makes a token in ready for a job that has none.';

create function queue.retry(p_job_id bigint, p_reason text, p_with_descendants boolean default false)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_attempt smallint;
  v_status queue.job_status;
begin
  if queue.revive_arrival(p_job_id, p_reason) then
    return queue.status_of(p_job_id)::text;
  end if;
  if p_with_descendants then
    perform queue.wait_for_guard('revive');
  end if;
  delete from queue.scheduled as token where token.id = p_job_id returning token.attempt into v_attempt;
  if found then
    perform queue.record_act(p_job_id, 'expedited', 'scheduled', 'pending', v_attempt, p_reason);
    perform queue.put_ready(p_job_id, v_attempt);
    if p_with_descendants then
      perform queue.revive_flow(array[p_job_id], p_reason);
    end if;
    return 'pending';
  end if;

  -- A redrive in flight holds the dead letter and comes first.
  perform from queue.dead_letters as dead where dead.job_id = p_job_id for update;
  -- An ended job has no token and no lease to lock: it is held by its newest run, so that one caller alone revives it.
  perform queue.hold_ended(array[p_job_id]);
  v_status := queue.status_of(p_job_id);
  if v_status in ('failed', 'cancelled') then
    delete from queue.dead_letters as dead where dead.job_id = p_job_id;
    perform queue.begin_revival(array[p_job_id]);
    perform queue.record_act(p_job_id, 'redriven', v_status, 'pending', 0::smallint, p_reason);
    perform queue.put_ready(p_job_id, 0::smallint);
    if p_with_descendants then
      perform queue.revive_flow(array[p_job_id], p_reason);
    end if;
    return 'pending';
  end if;
  return case when v_status in ('pending', 'processing') then v_status::text end;
end;
$$;
comment on function queue.retry is
  'Runs a job now: a scheduled one without waiting, a failed or cancelled one with a fresh budget; with p_with_descendants, what its end cancelled waits for it again. Null when it can''t (blocked, completed, unknown).';

create function queue.set_paused(p_queue text, p_is_paused boolean, p_reason text)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id integer;
begin
  select line.id into v_id from queue.queues as line where line.name = p_queue;
  if v_id is null then
    raise exception 'unknown queue: %', coalesce(quote_literal(left(p_queue, 80)), 'null')
      using errcode = 'MR014', detail = 'No job was ever enqueued on it and no worker serves it.',
        hint = 'A queue''s name is its jobs'' type unless said otherwise.';
  end if;
  update queue.queues as line
  set is_paused = p_is_paused, paused_at = case when p_is_paused then queue.clock() end,
    paused_reason = case when p_is_paused then left(p_reason, 1000) end
  where line.id = v_id and line.is_paused <> p_is_paused;
  if not found then
    return false;
  end if;
  perform queue.note(case when p_is_paused then 'queue_paused' else 'queue_resumed' end, null,
    jsonb_build_object('queue', p_queue, 'reason', p_reason));
  if not p_is_paused then
    perform queue.end_detours();
    perform queue.ring(v_id, 16);
  end if;
  return true;
end;
$$;
comment on function queue.set_paused is 'Pauses or resumes a queue; false when it already was so. Raises MR014.';
