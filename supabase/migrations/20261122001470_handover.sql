-- Jobs that a worker passes on: to a function that says "I report later" and tells progress and end by a call of its own.
--   processing stays processing, under a lease of its own; then as settle says
--
-- Locks: leases in id order, then as settle.

create table queue.handovers (
  from_lease_id bigint not null,
  job_id bigint not null,
  lease_id bigint,
  note jsonb,
  wanted_until timestamptz,
  constraint handovers_pkey primary key (from_lease_id, job_id)
);
create index handovers_lease_idx on queue.handovers (lease_id);
comment on table queue.handovers is
  'Jobs that were passed on: the lease they were claimed under, which the function was told, and the one they have now.';
comment on column queue.handovers.lease_id is 'Null: not passed on yet, and the function has asked for time already.';

create function queue.hand_over(
  p_worker integer, p_lease_id bigint, p_job_id bigint, p_ms double precision, p_note jsonb default null
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_expires_at timestamptz;
  v_held queue.leases;
  v_lease_id bigint := p_lease_id;
begin
  select lease.* into v_held from queue.leases as lease
  where lease.id = p_lease_id and lease.worker_id = p_worker and p_job_id = any (lease.job_ids) and not lease.is_handed_over
  for update;
  if not found or exists (
    select from queue.runs as run where run.job_id = p_job_id and run.lease_id = p_lease_id
  ) then
    return false;
  end if;
  v_expires_at := greatest(queue.clock() + queue.span(p_ms), (
    select asked.wanted_until from queue.handovers as asked
    where asked.from_lease_id = p_lease_id and asked.job_id = p_job_id
  ));
  if cardinality(v_held.job_ids) = 1 then
    -- What it did to workers before is no longer this worker's risk.
    update queue.leases set expires_at = v_expires_at, is_handed_over = true, is_offered = false, crashes = 0 where id = p_lease_id;
  else
    perform queue.ensure_generation();
    v_lease_id := nextval('queue.lease_ids');
    update queue.leases as lease
    set (job_ids, attempts) = (
      select array_agg(part.job_id order by part.position), array_agg(part.attempt order by part.position)
      from unnest(lease.job_ids, lease.attempts) with ordinality as part (job_id, attempt, position)
      where part.job_id <> p_job_id
    )
    where lease.id = p_lease_id;
    insert into queue.leases (id, claimed_at, expires_at, worker_id, crashes, is_handed_over, job_ids, attempts)
    values (
      v_lease_id, v_held.claimed_at, v_expires_at, p_worker, 0, true, array[p_job_id],
      array[v_held.attempts[array_position(v_held.job_ids, p_job_id)]]
    );
    -- The others may all have ended already.
    perform queue.close_leases(array[p_lease_id], array[0::bigint]);
  end if;
  insert into queue.handovers (from_lease_id, job_id, lease_id, note)
  values (p_lease_id, p_job_id, v_lease_id, p_note)
  on conflict on constraint handovers_pkey do update set lease_id = excluded.lease_id, note = excluded.note;
  return true;
end;
$$;
comment on function queue.hand_over is
  'Passes a job of this worker on: it has a lease of its own from now on, for p_ms milliseconds. False when the lease was lost, or the job has ended.';

create function queue.answer_call(p_job_id bigint, p_lease_id bigint, p_report text, p_detail jsonb)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_passed queue.handovers := (
    select passed from queue.handovers as passed
    where passed.from_lease_id = p_lease_id and passed.job_id = p_job_id
  );
  v_lease_id bigint;
  v_until timestamptz;
  v_note jsonb;
begin
  if v_passed.lease_id is null then
    -- It may be passed on at this moment: then its lease is locked, and afterwards it is another.
    perform queue.lock_leases(array[p_lease_id]);
    select passed.* into v_passed from queue.handovers as passed
    where passed.from_lease_id = p_lease_id and passed.job_id = p_job_id;
  end if;
  v_lease_id := coalesce(v_passed.lease_id, p_lease_id);
  -- Somebody asked to cancel it: the function hears that it is no longer its job, and there is nobody else to end it.
  if p_report in ('progress', 'extend') and v_passed.lease_id is not null and exists (
    select from queue.cancellations as request where request.job_id = p_job_id
  ) then
    perform queue.settle_one(v_lease_id, p_job_id, 'cancelled', jsonb_build_object('note', v_passed.note));
    return false;
  end if;
  if p_report = 'progress' then
    return queue.report(
      p_job_id, (p_detail ->> 'percent')::numeric, p_detail ->> 'message', p_detail -> 'data', v_lease_id);
  elsif p_report = 'extend' then
    v_until := v_now + queue.span((p_detail ->> 'seconds')::double precision * 1000);
    update queue.leases as lease
    set expires_at = case when lease.is_handed_over then greatest(lease.expires_at, v_until) else lease.expires_at end
    where lease.id = v_lease_id and p_job_id = any (lease.job_ids) and not exists (
      select from queue.runs as run where run.job_id = p_job_id and run.lease_id = lease.id
    );
    if not found then
      return false;
    end if;
    if v_passed.lease_id is null then
      -- Until it is passed on its worker keeps the lease alive, which others may share; the time is for afterwards.
      insert into queue.handovers as asked (from_lease_id, job_id, wanted_until)
      values (p_lease_id, p_job_id, v_until)
      on conflict on constraint handovers_pkey do update
      set wanted_until = greatest(asked.wanted_until, excluded.wanted_until);
    end if;
    return true;
  elsif p_report in ('completed', 'failed') then
    if v_passed.lease_id is not null then
      -- So that nobody takes the time until its end for the time that a worker needs.
      v_note := case when jsonb_typeof(v_passed.note) = 'object' then v_passed.note
        else jsonb_strip_nulls(jsonb_build_object('note', v_passed.note)) end || '{"is_handed_over": true}';
    end if;
    return queue.settle_one(
      v_lease_id, p_job_id, p_report, (p_detail - 'result') || jsonb_build_object('note', v_note), p_detail -> 'result'
    ) is not null;
  end if;
  raise exception 'unknown report: %', coalesce(quote_literal(left(p_report, 80)), 'null')
    using errcode = '22023', hint = 'A function reports progress, extend, completed or failed.';
end;
$$;
comment on function queue.answer_call is
  'What a function reports of a job that it was sent under a lease: progress, extend, completed or failed. False when the job is no longer this attempt''s, and when somebody asked to cancel it.';
