-- The doorbell of the Edge worker: it sleeps until somebody posts to it. The tick of pg_cron posts when work is due, and an
-- enqueue posts when the bell is armed: when the worker has said that it ran dry. Under load nobody rings. pg_net sends after
-- commit and may lose what it was given; the job's row stays the truth, and the next tick posts again while work is due.
--
-- Locks: nobody waits here. The bell is taken with skip locked. One post a second is held by guards whose names are
-- seconds, of which there are 61: a transaction that rang and stays open keeps others from ringing in two or three of them.

create table queue.rings (
  id bigint generated always as identity,
  request_id bigint,
  at timestamptz not null,
  reason text not null,
  status_code integer,
  timed_out boolean,
  error text,
  answer text,
  finished_at timestamptz,
  constraint rings_pkey primary key (id),
  constraint rings_reason_known check (reason in ('tick', 'enqueue', 'remaining'))
);
create index rings_open_idx on queue.rings (request_id) where finished_at is null;
comment on table queue.rings is
  'One row for each post to the Edge worker, with the HTTP outcome: pg_net forgets it after hours. Kept for seven days, and ten thousand at most.';
comment on column queue.rings.request_id is 'What net.http_post returned; null when it failed. A crash of the server starts these anew.';
comment on column queue.rings.reason is 'tick (trigger_queue_worker), enqueue (the armed bell) or remaining (a run of the worker ended before the work did).';
comment on column queue.rings.answer is 'The beginning of an answer other than 2xx.';
comment on column queue.rings.finished_at is 'When pg_net had an answer or gave up; null: not told yet.';

create function queue.doorbell(out o_state text, out o_url text, out o_token text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('net.http_request_queue') is null or to_regclass('vault.decrypted_secrets') is null
    or not queue.is_trusted_schema('net') or not queue.is_trusted_schema('vault')
  then
    o_state := 'unavailable';
    return;
  end if;
  select nullif(btrim(secret.decrypted_secret, E' \t\r\n'), '') into o_url
  from vault.decrypted_secrets as secret where secret.name = 'queue_worker_url';
  select nullif(btrim(secret.decrypted_secret, E' \t\r\n'), '') into o_token
  from vault.decrypted_secrets as secret where secret.name = 'queue_worker_token';
  o_state := case when o_url is null or o_token is null then 'unconfigured' else 'ready' end;
end;
$$;
comment on function queue.doorbell is
  'Where to ring and with what token: ready, unavailable (no pg_net or no Vault) or unconfigured (no secrets). It returns a secret: nobody but the owner may call it.';

create function queue.take_edge_bell()
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  delete from queue.bells
  where ctid = any (array(
    select bell.ctid from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = 0 for update skip locked
  ));
  return found;
exception
  when serialization_failure then
    return false; -- a caller in repeatable read still sees a bell that somebody took
end;
$$;
comment on function queue.take_edge_bell is 'Disarms the Edge worker''s bell; false when it was not armed or another transaction is just taking it.';

-- The bell's owner always posts: the run that armed it has ended, and no other will look for this job. Whoever has no bell
-- leaves it at a post of the last second, and at one that pg_net has not sent yet: posts that wait for a dead pg_net would
-- all be sent at once when it comes back.
create function queue.post_ring(p_reason text, p_action text, p_type text, p_batch integer, p_has_bell boolean)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_second bigint := floor(extract(epoch from v_now));
  v_state text;
  v_url text;
  v_token text;
  v_last record;
  v_is_only boolean;
  v_error text;
begin
  begin
    select door.o_state, door.o_url, door.o_token into v_state, v_url, v_token from queue.doorbell() as door;
    if v_state <> 'ready' then
      return v_state;
    end if;
    v_is_only := queue.try_guard('ring ' || v_second % 61);
    if v_is_only then
      v_is_only := queue.try_guard('ring ' || (v_second + 1) % 61);
    end if;
    if not p_has_bell then
      -- A statement of its own, after the locks: it sees what the one before us committed.
      select ring.at, ring.request_id into v_last from queue.rings as ring order by ring.id desc limit 1;
      -- One in the future was posted before the clock was set back.
      if not v_is_only or v_last.at between v_now - interval '1 second' and v_now then
        return 'coalesced';
      end if;
      if exists (select from net.http_request_queue as request where request.id = v_last.request_id) then
        return 'coalesced';
      end if;
    end if;
    insert into queue.rings (request_id, at, reason)
    select net.http_post(
      url => v_url,
      body => jsonb_build_object(
        'action', coalesce(p_action, 'process'), 'type', p_type, 'async', true,
        -- The worker would refuse any other number, and nobody come.
        'batch', case when p_batch is not null then least(greatest(p_batch, 1), 1000) end),
      headers => jsonb_build_object('Content-Type', 'application/json', 'Authorization', 'Bearer ' || v_token),
      timeout_milliseconds => 5000
    ), v_now, p_reason;
    return 'rung';
  exception
    when others then
      -- The doorbell never fails its caller: a job in the queue is worth more than a ring.
      v_error := left(replace(sqlerrm, coalesce(v_token, ''), '[token]'), 1000);
  end;
  insert into queue.rings (at, reason, error, finished_at) values (v_now, p_reason, v_error, v_now);
  raise warning 'queue worker was not triggered: %', v_error;
  return 'failed';
end;
$$;
comment on function queue.post_ring is
  'Posts to the Edge worker and writes it down: rung, coalesced, unavailable, unconfigured or failed. Never raises.';

-- What long-lived workers serve, and what a route turns off, is no reason to call the Edge worker.
create function queue.edge_lines(p_queue_ids integer[])
returns integer[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_since timestamptz := queue.clock() - (select settings.worker_timeout from queue.settings);
begin
  return array(
    select line.id from unnest(p_queue_ids) as line (id)
    where exists (
      select from queue.type_queues as pair
      join queue.types as type on type.id = pair.type_id
      where pair.queue_id = line.id and not exists (
        select from queue.workers as worker
        where worker.is_registered and worker.seen_at > v_since and type.name = any (worker.type_names)
          -- Who only calls get_next_job tells nothing of itself: it may never come back.
          and worker.details is not null and worker.details ->> 'kind' is distinct from 'edge'
      ) and not exists (
        select from queue.routes as route where route.type_name = type.name and not route.is_enabled
      )
    )
  );
end;
$$;
comment on function queue.edge_lines is
  'Those of these queues that hold a type which no long-lived worker serves and no route turns off.';

-- A worker of very many queues has one bell for all. It is rung by those that hold a type it runs.
create function queue.ring_wide(p_queue_id integer)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_worker_id integer;
  v_number integer;
begin
  if not queue.may_notify() then
    return false;
  end if;
  select bell.worker_id, bell.number into v_worker_id, v_number from queue.bells as bell
  where bell.queue_id = 0 and bell.worker_id > 0 and (bell.type_ids is null or exists (
    select from queue.type_queues as pair where pair.queue_id = p_queue_id and pair.type_id = any (bell.type_ids)
  ))
  limit 1 for update skip locked;
  if v_worker_id is null then
    return current_setting('transaction_isolation') = 'read committed' and queue.ring_held(0, 16, p_queue_id) > 0;
  end if;
  -- In an older snapshot a bell that rang meanwhile would be an error. Left where it is, it rings once too often at worst.
  if current_setting('transaction_isolation') = 'read committed' then
    delete from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = v_worker_id and bell.number = v_number;
  end if;
  perform pg_notify('millrace', 'w:' || v_worker_id);
  return true;
exception
  when serialization_failure then
    return false; -- a caller in repeatable read still sees a bell that somebody took
end;
$$;
comment on function queue.ring_wide is
  'Wakes one of the workers that sleep on very many queues and run a type of this one; false when there is none.';

create function queue.ring_edge(p_queue_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from queue.bells as bell where bell.queue_id = 0 and bell.worker_id > 0)
    and p_queue_id is not null and queue.ring_wide(p_queue_id)
  then
    return;
  end if;
  if not exists (select from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = 0) then
    return;
  end if;
  -- A run would find nothing there, arm the bell, and be rung again by the next job.
  if exists (select from queue.queues as line where line.id = p_queue_id and line.is_paused)
    or (p_queue_id is not null and cardinality(queue.edge_lines(array[p_queue_id])) = 0)
  then
    return;
  end if;
  perform queue.post_ring('enqueue', 'process', null, null, queue.take_edge_bell());
end;
$$;
comment on function queue.ring_edge is
  'A job became ready while the Edge worker''s bell was armed: takes the bell and posts, unless a worker of very many queues is woken. Where a transaction that is still open holds the bell, at most one post a second.';

create function queue.arm_edge_bell()
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  if (select door.o_state from queue.doorbell() as door) <> 'ready' then
    return false;
  end if;
  -- Somebody who arms it in a transaction that stays open would make the insert wait.
  if not exists (select from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = 0) then
    if not queue.try_guard('arm') then
      return false;
    end if;
    insert into queue.bells (queue_id, worker_id) values (0, 0) on conflict do nothing;
  end if;
  return true;
exception
  when others then
    return false; -- the Vault can't be read: there is nothing to ring with
end;
$$;
comment on function queue.arm_edge_bell is
  'The Edge worker has run dry: the next job that becomes ready rings it, once. False when there is nothing to ring with. Look at the queue once more after it was armed.';
