-- Guards: what one transaction at a time may do. A guard is a row, because whoever may connect can take any advisory lock and keep it,
-- and these rows can be locked by the owner's functions alone.
--
-- Locks: the row of a guard, until the caller commits; a savepoint that is rolled back lets go of it.

create table queue.guards (
  name text not null,
  constraint guards_pkey primary key (name)
);
comment on table queue.guards is 'Rows that are locked and never written: one for each thing that one transaction at a time may do.';

insert into queue.guards (name) select unnest('{generation,maintain,retention,revive,arm}'::text[]);
insert into queue.guards (name) select 'failure ' || number from generate_series(0, 15) as number;
insert into queue.guards (name) select 'detour ' || number from generate_series(0, 63) as number;
-- A prime, so that calls at round times don't come to the same ones.
insert into queue.guards (name) select 'ring ' || number from generate_series(0, 60) as number;

create function queue.try_guard(p_name text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  perform from queue.guards as guard where guard.name = p_name for update skip locked;
  -- Where the row is missing, as after a restore without data, nobody is held up for ever.
  return found or not exists (select from queue.guards as guard where guard.name = p_name);
end;
$$;
comment on function queue.try_guard is 'Takes a guard until the caller commits; false while another transaction has it.';

create function queue.wait_for_guard(p_name text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  perform from queue.guards as guard where guard.name = p_name for update;
  if not found then
    -- As after a restore without data. Who comes second waits for this row to be committed.
    insert into queue.guards (name) values (p_name) on conflict do nothing;
    perform from queue.guards as guard where guard.name = p_name for update;
  end if;
end;
$$;
comment on function queue.wait_for_guard is 'Takes a guard until the caller commits, after whoever has it.';
