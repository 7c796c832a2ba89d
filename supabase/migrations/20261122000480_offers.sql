-- An idle worker needs no claim: the enqueue leases the job to it and sends it along with the news.
--   (nothing) -> processing
--
-- The lease is short, because nobody knows whether the worker still lives; it becomes a common one when the worker accepts or extends
-- it. If it runs out before, the job is pending, as if it had not been offered: no attempt is charged (see queue.rescue).
--
-- Locks: a bell, with skip locked, until the caller commits.

create function queue.offer(
  p_id bigint, p_created_at timestamptz, p_type_id integer, p_queue_id integer, p_priority text, p_max_retries smallint,
  p_payload jsonb, p_type text, p_queue text, p_tenant text, p_scheduled_at timestamptz, p_options jsonb
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  -- Not the time of the enqueue: it may have waited since for a name, a key or a quota.
  v_now timestamptz := queue.clock();
  v_is_taken boolean;
begin
  -- What may run only once waits for a worker that asks. A notification holds 8,000 bytes: names have up to 800 each.
  if p_max_retries = 0 or pg_column_size(p_payload) > 4096 or octet_length(p_payload::text) > 5000
    or octet_length(p_options::text) > 300
    -- In an older snapshot a bell that rang meanwhile would be an error.
    or current_setting('transaction_isolation') <> 'read committed'
    or not queue.may_notify()
  then
    return false;
  end if;
  perform queue.ensure_generation();
  with bell as (
    delete from queue.bells
    where ctid = (
      select bell.ctid from queue.bells as bell
      where bell.queue_id = p_queue_id and bell.channel is not null
        and (bell.type_ids is null or p_type_id = any (bell.type_ids))
      limit 1
      for update skip locked
    )
    returning worker_id, channel, v_now + offer_ms * interval '1 millisecond' as expires_at
  ),
  lease as (
    insert into queue.leases (id, claimed_at, expires_at, worker_id, crashes, is_offered, job_ids, attempts)
    select nextval('queue.lease_ids'), v_now, bell.expires_at, bell.worker_id, 0, true, array[p_id], '{1}'
    from bell
    returning id
  )
  select count(pg_notify(bell.channel, json_build_object(
    'now', queue.epoch_ms(v_now), 'expires_at', queue.epoch_ms(bell.expires_at), 'job', json_build_array(
      lease.id::text, p_id::text, p_type, p_queue, p_priority, p_payload, p_tenant, 1, p_max_retries,
      queue.epoch_ms(p_created_at), queue.epoch_ms(p_scheduled_at), p_options)
  )::text)) = 1 into v_is_taken
  from bell, lease;
  return v_is_taken;
end;
$$;
comment on function queue.offer is
  'Leases a new job to a worker that sleeps on its queue and takes jobs without asking, and sends it there at commit; false when there is none.';
