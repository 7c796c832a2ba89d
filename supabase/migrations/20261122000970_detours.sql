-- A claim that knows no mark looks from the start. It passes what it can't have: jobs of types that nobody here serves, and dead
-- index entries that an old snapshot keeps. Where that was much, the place it came to is remembered for all who claim from the same
-- queues and types, and for a time in proportion to what was read, half a second at most, they begin there. So dear looks take a part of
-- the time only. What came before the place meanwhile (a job of higher priority, one that was given back) waits until the
-- next look from the start.
--
-- Where such a look has taken all there was, it is a time instead of a place: in each queue and priority claims begin two seconds before
-- the look. In the lanes of tenants that costs a comparison for each index entry, and no look at the row. What comes back to its old
-- place ends that: see queue.end_detours. Only what was enqueued by a transaction of more than two seconds waits, for the first look
-- after that, and so does what comes back by a rollback.
--
-- Rows are added and never updated: a row that is updated again and again is what an old snapshot makes slow.
--
-- Locks: a guard of the scope, which nobody waits for; rows of queue.detours with skip locked.

create function queue.scope_of(p_queue_ids integer[], p_except integer[], p_type_ids integer[])
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return hashtextextended(row(p_queue_ids, p_except, p_type_ids)::text, 0);
end;
$$;
comment on function queue.scope_of is 'A number that stands for a set of queues and types.';

create function queue.detour(p_scope bigint)
returns json
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := queue.clock();
begin
  return (
    select last.mark from (
      select known.* from queue.detours as known where known.scope = p_scope order by known.number desc limit 1
    ) as last
    where v_now between last.at and last.at + last.pause_ms * interval '1 millisecond'
  );
end;
$$;
comment on function queue.detour is 'Where a claim of this scope begins just now; null: at the start.';

create function queue.detour_from(p_begun_at timestamptz)
returns json
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return json_build_object('from', p_begun_at - interval '2 seconds');
end;
$$;
comment on function queue.detour_from is 'The detour after a look that began at this time and took all there was.';

create function queue.pending_from(p_queue_ids integer[], p_except integer[], p_type_ids integer[])
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(
    (queue.detour(queue.scope_of(p_queue_ids, p_except, p_type_ids)) ->> 'from')::timestamptz, timestamptz '-infinity');
end;
$$;
comment on function queue.pending_from is 'From which time on jobs may be pending for a claim of these queues and types; -infinity when that is not known.';

create function queue.end_detours()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  -- In an older snapshot a row that somebody replaced would be an error: then claims look from the start again a moment later.
  if pg_sequence_last_value('queue.detour_mark') = 1 and current_setting('transaction_isolation') = 'read committed' then
    delete from queue.detours
    where (scope, number) in (
      select known.scope, known.number from queue.detours as known where known.mark -> 'from' is not null for update skip locked
    );
  end if;
end;
$$;
comment on function queue.end_detours is
  'Called where tokens come back to an old place in ready: claims that begin at a time look from the start again.';

create function queue.note_detour(p_scope bigint, p_read bigint, p_mark json)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_number bigint;
begin
  -- What an older snapshot shows is not what there is.
  if current_setting('transaction_isolation') <> 'read committed' or not queue.try_guard('detour ' || (p_scope & 63)) then
    return;
  end if;
  if p_mark is not null then
    insert into queue.detours as made (scope, at, pause_ms, mark)
    values (p_scope, queue.clock(), least(greatest(p_read / 100, 200), 500), p_mark)
    returning made.number into v_number;
    perform setval('queue.detour_mark', 1);
  end if;
  delete from queue.detours
  where ctid = any (array(
    select old.ctid from queue.detours as old
    where old.scope = p_scope and old.number is distinct from v_number for update skip locked
  ));
end;
$$;
comment on function queue.note_detour is
  'Remembers where claims of a scope begin for a while after a look that read so many index entries; null: at the start again.';
