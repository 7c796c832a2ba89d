-- A worker that sleeps arms bells: the next job that becomes ready on one of its queues wakes it, or is brought to it.
--
-- Locks: an offered lease that is accepted, with skip locked; the worker's row, shared with its other calls and exclusive at
-- its sign-out; its own bells, with skip locked.

create function queue.disarm_bells(p_worker integer)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  -- Not those that an enqueue holds: its job is on its way already, and its transaction may be long.
  delete from queue.bells
  where ctid = any (array(
    select bell.ctid from queue.bells as bell where bell.worker_id = p_worker for update skip locked
  ));
end;
$$;
comment on function queue.disarm_bells is 'This worker takes no more jobs: none shall ring for it or be offered to it.';

-- An enqueue takes a bell by deleting it, and its transaction may stay open. Such a bell can't be locked; that its row has a deleter or
-- locker at all is told by xmax, so that in the common case no row is locked here.
create function queue.pass_held_bells(p_worker integer)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_free bigint[];
begin
  if not exists (select from queue.bells as bell where bell.worker_id = p_worker and bell.xmax <> '0')
    and not exists (select from queue.passed_bells as passed where passed.worker_id = p_worker)
  then
    return;
  end if;
  perform set_config('synchronous_commit', 'off', true);
  v_free := array(
    select (bell.queue_id::bigint << 32) + bell.number from queue.bells as bell
    where bell.worker_id = p_worker and bell.xmax <> '0'
    for update skip locked
  );
  insert into queue.passed_bells as passed (queue_id, worker_id, number)
  select bell.queue_id, p_worker, max(bell.number) from queue.bells as bell
  where bell.worker_id = p_worker and bell.xmax <> '0' and (bell.queue_id::bigint << 32) + bell.number <> all (v_free)
  group by bell.queue_id
  on conflict (queue_id, worker_id) do update set number = excluded.number where passed.number < excluded.number;
  -- Their transactions have ended.
  delete from queue.passed_bells as passed
  where passed.worker_id = p_worker and not exists (
    select from queue.bells as bell
    where bell.queue_id = passed.queue_id and bell.worker_id = p_worker and bell.number <= passed.number
  );
  delete from queue.bells as bell
  using queue.passed_bells as passed
  where bell.worker_id = p_worker and passed.worker_id = p_worker and passed.queue_id = bell.queue_id
    and bell.number <= passed.number and (bell.queue_id::bigint << 32) + bell.number = any (v_free);
end;
$$;
comment on function queue.pass_held_bells is
  'Notes which of a worker''s bells open transactions hold: they no longer wake it, and it can arm others.';

-- Told without looking at all of them: of one more than 256 pairs for each type there are at least 257 queues.
create function queue.is_wide(p_type_ids integer[])
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return (
    select count(distinct few.queue_id) > 256
    from (
      select pair.queue_id
      from queue.type_queues as pair join queue.queues as line on line.id = pair.queue_id
      where pair.type_id = any (p_type_ids) and not line.is_paused
      limit 256 * cardinality(p_type_ids) + 1
    ) as few
  );
end;
$$;
comment on function queue.is_wide is 'True when a worker of these types has more than 256 queues to listen for.';

create function queue.arm_bells(
  p_worker integer, p_queue_ids integer[], p_type_ids integer[], p_channel text default null, p_offer_ms integer default null,
  p_accept bigint default null, p_lease_ms integer default null
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_is_alive boolean;
  v_is_wide boolean := false;
  v_lines integer[];
  v_from timestamptz := timestamptz '-infinity';
begin
  -- A bell that a crash takes away is no loss: every worker looks by itself from time to time.
  perform set_config('synchronous_commit', 'off', true);
  if p_accept is not null then
    perform from queue.leases as lease
    where lease.id = p_accept and lease.worker_id = p_worker for no key update skip locked;
    v_is_alive := found;
    update queue.leases as lease
    set is_offered = false, expires_at = greatest(lease.expires_at, queue.clock() + p_lease_ms * interval '1 millisecond')
    where v_is_alive and lease.id = p_accept and lease.worker_id = p_worker;
  end if;
  -- Offers to a worker that is gone would wait in vain, so its last call may have come too late to arm anything.
  perform from queue.workers as worker where worker.id = p_worker and worker.is_registered for key share;
  if not found then
    return v_is_alive;
  end if;
  perform queue.pass_held_bells(p_worker);
  -- For very many queues one bell stands: it costs the same however many there are, and brings no job itself.
  if p_queue_ids is null
    and exists (select from queue.type_queues as pair where pair.type_id = any (p_type_ids) offset 256)
  then
    v_is_wide := queue.is_wide(p_type_ids);
  end if;
  if not v_is_wide then
    v_lines := queue.lines(p_queue_ids, null, p_type_ids);
  end if;
  if v_is_wide or cardinality(v_lines) > 256 then
    insert into queue.bells (queue_id, worker_id, number, type_ids)
    select 0, p_worker, held.number + 1, p_type_ids
    from (
      select coalesce(max(passed.number), 0) as number from queue.passed_bells as passed
      where passed.queue_id = 0 and passed.worker_id = p_worker
    ) as held
    where not exists (
      select from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = p_worker and bell.number > held.number
    )
    on conflict do nothing;
    return v_is_alive;
  end if;
  if pg_sequence_last_value('queue.detour_mark') = 1 then
    v_from := queue.pending_from(p_queue_ids, null, p_type_ids);
  end if;
  -- A bell of a queue where something was pending becomes one that brings jobs.
  if p_channel is not null then
    delete from queue.bells
    where ctid = any (array(
      select bell.ctid from queue.bells as bell
      where bell.worker_id = p_worker and bell.channel is null and not exists (
        select from generate_series(0, 3) as rank (p) cross join lateral (
          select from queue.ready as token
          where token.queue_id = bell.queue_id and token.priority = rank.p
            and (token.lane, token.at) >= (0, v_from) and token.at >= v_from
          limit 1
        ) as token
      )
      for update skip locked
    ));
  end if;
  insert into queue.bells (queue_id, worker_id, number, type_ids, channel, offer_ms)
  select line.id, p_worker, coalesce(passed.number, 0) + 1, p_type_ids, case when is_empty then p_channel end, case when is_empty then p_offer_ms end
  from unnest(v_lines) as line (id)
  -- What is pending comes first.
  cross join lateral (
    select not exists (
      select from generate_series(0, 3) as rank (p) cross join lateral (
        select from queue.ready as token
        where token.queue_id = line.id and token.priority = rank.p
          and (token.lane, token.at) >= (0, v_from) and token.at >= v_from
        limit 1
      ) as token
    )
  ) as look (is_empty)
  left join queue.passed_bells as passed on passed.queue_id = line.id and passed.worker_id = p_worker
  where not exists (
    select from queue.bells as bell
    where bell.queue_id = line.id and bell.worker_id = p_worker and bell.number > coalesce(passed.number, 0)
  )
  on conflict do nothing;
  return v_is_alive;
end;
$$;
comment on function queue.arm_bells is
  'This worker sleeps: the next job that becomes ready on one of these queues wakes it, once, by NOTIFY millrace. With a channel a new job may come to it there, leased already. The worker begins with the offered lease p_accept: false when that was lost.';
