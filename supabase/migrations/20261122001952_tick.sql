-- The tick of pg_cron, and of whoever calls the Edge worker by hand: posts when work is due.
--
-- Locks: as the doorbell does; and what maintenance locks, with skip locked.

create function queue.has_due_work()
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return cardinality(queue.edge_lines(queue.lines(null, null, null))) > 0
    or exists (select from queue.scheduled as token where token.at <= queue.clock())
    or exists (select from queue.leases as lease where lease.expires_at < queue.clock());
end;
$$;
comment on function queue.has_due_work is
  'Whether a worker would find something to do now: pending jobs on a queue that is not paused, jobs that fell due, leases that ran out.';

create function queue.trigger_worker(p_action text, p_type text, p_batch integer, p_reason text default 'tick')
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_answer text;
  v_last timestamptz;
begin
  perform queue.collect_rings();
  if p_reason <> 'remaining' and exists (select from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = 0) then
    -- The worker has run dry, and nothing has rung since. What falls due rings here; what it could not have is no reason to call it
    -- again and again, but now and then: a transaction that was open when the bell was armed may have brought a job unheard.
    perform queue.maintain();
    if not exists (select from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = 0) then
      return 'rung';
    end if;
    select ring.at into v_last from queue.rings as ring order by ring.id desc limit 1;
    if v_last between queue.clock() - interval '1 minute' and queue.clock() then
      return 'idle';
    end if;
  end if;
  if not queue.has_due_work() then
    perform queue.arm_edge_bell();
    return 'idle';
  end if;
  v_answer := queue.post_ring(case when p_reason = 'remaining' then p_reason else 'tick' end, p_action, p_type, p_batch, false);
  if v_answer = 'rung' and p_type is null then
    -- The worker comes anyway, and arms it again when it has run dry; one that is asked for a single type does not.
    perform queue.take_edge_bell();
  end if;
  return v_answer;
exception
  when others then
    -- For example in a transaction that may only read.
    raise warning 'queue worker was not triggered: %', sqlerrm;
    return 'failed';
end;
$$;
comment on function queue.trigger_worker is
  'Posts to the Edge worker when work is due, at most once a second: rung, coalesced, idle (its bell is armed then), unavailable (no pg_net or Vault), unconfigured or failed. p_reason: tick or remaining.';

create function public.trigger_queue_worker(
  p_action text default 'process', p_type text default null, p_batch integer default null
)
returns text
language sql volatile security invoker set search_path = pg_catalog, pg_temp
as $$ select queue.trigger_worker(p_action, p_type, p_batch); $$;
comment on function public.trigger_queue_worker is
  'Wakes the Edge worker over HTTP when work is due, for one type or all, with p_batch jobs at a time or as many as it likes; never raises. Answers rung, coalesced, idle, unavailable, unconfigured or failed.';
