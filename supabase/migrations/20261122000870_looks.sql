-- What has come due is found by time: scheduled jobs, and leases that ran out. Such a look begins at the beginning of an index, and an old
-- snapshot keeps there the entries of all that was found before. So a look that read much and left nothing is remembered: for half a
-- second all looks begin at its time. What was committed late, with a time before that, waits for the first look after that. See docs/decisions/026.
--
-- Locks: none. The memory is a sequence, because each claim reads it, and no snapshot keeps old values of it.

create unlogged sequence queue.due_mark as bigint minvalue 0 start 0;
comment on sequence queue.due_mark is 'When all that was due in queue.scheduled was last found by a look that read much: microseconds since 1970.';

create unlogged sequence queue.expiry_mark as bigint minvalue 0 start 0;
comment on sequence queue.expiry_mark is 'When all leases that had run out were last found by a look that read much: microseconds since 1970.';

create function queue.look_from(p_looked regclass)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := queue.clock();
  v_at timestamptz := timestamptz '1970-01-01 00:00:00+00' + pg_sequence_last_value(p_looked) * interval '1 microsecond';
begin
  return case when v_now between v_at and v_at + interval '500 milliseconds' then v_at else '-infinity' end;
end;
$$;
comment on function queue.look_from is 'From which time on what is due has to be looked for: one of half a second ago at most, or from the beginning.';

create function queue.note_look(p_looked regclass, p_at timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What an older snapshot shows is not what there is.
  if current_setting('transaction_isolation') = 'read committed' then
    perform setval(p_looked, greatest(extract(epoch from p_at) * 1000000, 0)::bigint);
  end if;
end;
$$;
comment on function queue.note_look is 'Remembers a look from the beginning that read much: nothing that was due before is left.';
