-- Waking workers that sleep, for jobs that this transaction makes pending: a notification is sent at its commit.
--
-- Locks: bells, with skip locked, until the caller commits.

-- A full notification queue would fail the caller's commit, and a transaction that notified can't be prepared.
create function queue.may_notify()
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(current_setting('millrace.notify', true), '') <> 'off' and pg_notification_queue_usage() <= 0.5;
end;
$$;
comment on function queue.may_notify is
  'False when the setting millrace.notify is off, or the notification queue of the server is more than half full: then workers find jobs by looking.';

-- Bells that another transaction took and holds: it may be open for long, and its own ring come as late. So the worker is woken without
-- its bell. It answers by arming another one, and from then on this one does not count: see queue.pass_held_bells.
create function queue.ring_held(
  p_queue_id integer, p_count integer, p_wide_queue_id integer default null, p_type_ids integer[] default null
)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_since timestamptz := queue.clock() - (select settings.worker_timeout from queue.settings);
  v_rung integer;
begin
  select count(pg_notify('millrace', 'h:' || held.worker_id)) into v_rung
  from (
    select distinct bell.worker_id from queue.bells as bell
    where bell.queue_id = p_queue_id
      and not exists (
        select from queue.passed_bells as passed
        where passed.queue_id = bell.queue_id and passed.worker_id = bell.worker_id and passed.number >= bell.number
      )
      and (p_wide_queue_id is null or bell.type_ids is null or exists (
        select from queue.type_queues as pair where pair.queue_id = p_wide_queue_id and pair.type_id = any (bell.type_ids)
      ))
      and (p_type_ids is null or bell.type_ids is null or bell.type_ids && p_type_ids)
      -- Who is gone would not answer.
      and exists (select from queue.workers as worker where worker.id = bell.worker_id and worker.seen_at > v_since)
    limit p_count
  ) as held;
  return v_rung;
end;
$$;
comment on function queue.ring_held is 'Wakes up to p_count workers whose bells on a queue are held by open transactions; with queue 0 those with one bell for all that run a type of p_wide_queue_id. Returns how many.';

-- p_type_ids: what the jobs are of. In a queue of several types a worker that runs none of them would come in vain, and be the only one.
create function queue.ring(p_queue_id integer, p_count integer, p_type_ids integer[] default null)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_worker_id integer;
  v_count integer := 0;
begin
  if not queue.may_notify() then
    null; -- they look by themselves, a little later
  elsif current_setting('transaction_isolation') <> 'read committed' then
    -- A bell that was taken since this snapshot would be an error. Left where it is, it rings once too often at worst.
    perform pg_notify('millrace', 'w:' || bell.worker_id)
    from (
      select worker_id from queue.bells
      where queue_id = p_queue_id and (p_type_ids is null or type_ids is null or type_ids && p_type_ids)
      limit least(p_count, 16)
    ) as bell;
    v_count := found::integer;
  else
    for v_worker_id in
      delete from queue.bells
      where ctid = any (array(
        select bell.ctid from queue.bells as bell
        where bell.queue_id = p_queue_id and (p_type_ids is null or bell.type_ids is null or bell.type_ids && p_type_ids)
        limit least(p_count, 16)
        for update skip locked
      ))
      returning worker_id
    loop
      perform pg_notify('millrace', 'w:' || v_worker_id);
      v_count := v_count + 1;
    end loop;
    if v_count < least(p_count, 16) then
      v_count := v_count + queue.ring_held(p_queue_id, least(p_count, 16) - v_count, null, p_type_ids);
    end if;
  end if;
  -- Where a worker sleeps that was woken just now, the Edge worker is left alone.
  if v_count = 0 and exists (select from queue.bells as bell where bell.queue_id = 0) then
    perform queue.ring_edge(p_queue_id);
  end if;
end;
$$;
comment on function queue.ring is
  'Wakes up to p_count sleeping workers of a queue that run one of these types (null: any) at commit, or where none sleeps the Edge worker, if its bell is armed. NOTIFY takes a global lock, so it is sent only when somebody sleeps.';
