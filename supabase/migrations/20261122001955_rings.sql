-- What became of the rings: their HTTP outcome, copied before pg_net forgets it, and what it tells whoever is on call.
--
-- Locks: rings without an outcome, and old ones, with skip locked.

create function queue.collect_rings()
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_count integer := 0;
  v_first record;
  v_keep_from bigint;
begin
  if exists (select from queue.rings as ring where ring.finished_at is null) then
    begin
      if to_regclass('net._http_response') is not null and queue.is_trusted_schema('net') then
        with answered as (
          select ring.id, response.status_code, response.timed_out, response.error_msg, response.content, response.created
          from queue.rings as ring
          -- The time is for pg_net's index: it has none on the id. The clock may have been set back in between.
          join net._http_response as response
            on response.id = ring.request_id and response.created >= least(ring.at, v_now) - interval '1 minute'
          where ring.finished_at is null
          for update of ring skip locked
        )
        update queue.rings as ring
        set status_code = answered.status_code, timed_out = coalesce(answered.timed_out, false),
          error = left(answered.error_msg, 1000), finished_at = answered.created,
          answer = case when not coalesce(answered.status_code between 200 and 299, false) then left(answered.content, 500) end
        from answered
        where ring.id = answered.id;
        get diagnostics v_count = row_count;
      end if;
    exception
      when others then
        raise warning 'outcomes of rings were not collected: %', sqlerrm;
    end;
  end if;

  select ring.id, ring.at into v_first from queue.rings as ring order by ring.id limit 1;
  v_keep_from := (select max(ring.id) - 9999 from queue.rings as ring);
  if v_first.id < v_keep_from or v_first.at < v_now - interval '7 days' then
    delete from queue.rings
    where ctid = any (array(
      select old.ctid from (select ring.* from queue.rings as ring order by ring.id limit 2000) as first
      join queue.rings as old on old.id = first.id
      where old.id < v_keep_from or old.at < v_now - interval '7 days'
      for update of old skip locked
    ));
  end if;
  return v_count;
end;
$$;
comment on function queue.collect_rings is
  'Copies what pg_net knows of our posts into queue.rings and forgets old ones; returns how many outcomes were new. Never raises for what pg_net is like.';

create function queue.ring_advice(p_status_code integer, p_timed_out boolean, p_error text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when p_status_code in (401, 403) then format(
      'The Edge worker refused its token (HTTP %s): queue_worker_token in the Vault and the secret QUEUE_WORKER_TOKEN of the function must be the same, and the function be deployed with --no-verify-jwt.',
      p_status_code)
    when p_status_code = 404 then
      'Nobody is at the Edge worker''s address (HTTP 404): deploy the function queue-worker, and check queue_worker_url in the Vault.'
    when p_status_code between 300 and 399 then format(
      'The Edge worker''s address redirects (HTTP %s), and pg_net does not follow: put the last address into queue_worker_url in the Vault.', p_status_code)
    when p_status_code = 429 then
      'The platform turned the Edge worker''s call away (HTTP 429): too many calls of functions in this project.'
    when p_status_code >= 500 then format(
      'The Edge worker failed (HTTP %s): look into the logs of the function queue-worker, and check its secrets and QUEUE_DB_URL.', p_status_code)
    when p_status_code is not null then format(
      'The Edge worker answered HTTP %s: check that queue_worker_url in the Vault is the address of the function queue-worker, in its current version.', p_status_code)
    when p_timed_out then
      'The Edge worker did not answer in 5 s: look into the logs of the function queue-worker; it must answer before it works.'
    else format('The Edge worker was not reached: %s. Check queue_worker_url in the Vault, and pg_net.', coalesce(p_error, 'no answer'))
  end;
end;
$$;
comment on function queue.ring_advice is 'What to check when a ring ended other than with 2xx.';

create function queue.doorbell_problems()
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_last queue.rings;
  v_stuck queue.rings;
  v_problems jsonb := jsonb '[]';
begin
  select ring.* into v_last from queue.rings as ring where ring.finished_at is not null order by ring.id desc limit 1;
  if v_last.id is not null and not coalesce(v_last.status_code between 200 and 299, false) then
    v_problems := v_problems || jsonb_build_object(
      'code', 'doorbell_failing', 'at', v_last.at, 'status_code', v_last.status_code,
      'message', queue.ring_advice(v_last.status_code, v_last.timed_out, v_last.error));
  end if;
  select ring.* into v_stuck from queue.rings as ring
  where ring.finished_at is null and ring.id > coalesce(v_last.id, 0) and ring.at < v_now - interval '1 minute'
  order by ring.id limit 1;
  if v_stuck.id is not null then
    v_problems := v_problems || jsonb_build_object('code', 'doorbell_stuck', 'at', v_stuck.at, 'message', format(
      'A call of the Edge worker has had no answer for %s s: pg_net''s worker does not run. Try: select net.worker_restart().',
      round(extract(epoch from v_now - v_stuck.at))));
  end if;
  return v_problems;
end;
$$;
comment on function queue.doorbell_problems is
  'What queue.health() tells of the Edge worker''s doorbell: doorbell_failing when the newest ring with an outcome failed, doorbell_stuck when one gets none.';
