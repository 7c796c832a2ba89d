-- What maintenance could not do, and when it tries again. Each part of it fails by itself and undoes no other.
--
-- Locks: a guard and a row of queue.failures, with skip locked; nobody waits to write down a failure.

create table queue.failures (
  part text not null,
  tries integer not null,
  first_failed_at timestamptz not null,
  failed_at timestamptz not null,
  next_at timestamptz not null,
  code text not null,
  message text not null,
  noted_at timestamptz,
  constraint failures_pkey primary key (part)
) with (fillfactor = 50);
comment on table queue.failures is 'Parts of maintenance whose last try failed; a part that succeeds has no row.';
comment on column queue.failures.part is 'A part as queue.maintain names it, or partition and its number.';
comment on column queue.failures.next_at is 'When it is tried again.';
comment on column queue.failures.code is 'The SQLSTATE. 55P03: somebody held what it needed.';
comment on column queue.failures.noted_at is 'When the audit trail was last told, which is at most once a day.';

create function queue.part_failed(p_part text, p_code text, p_message text, p_wait interval)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_known queue.failures;
  -- Somebody was in the way: that passes, and only health tells it when it lasts.
  v_is_passing boolean := p_code in ('55P03', '40P01', '40001');
begin
  p_message := left(p_message, 1000);
  if queue.try_guard('failure ' || (hashtext(p_part) & 15)) then
    select known.* into v_known from queue.failures as known where known.part = p_part for update skip locked;
    if v_known.part is not null or not exists (select from queue.failures as known where known.part = p_part) then
      if not v_is_passing and (v_known.noted_at between v_now - interval '1 day' and v_now) is not true then
        perform queue.note('maintenance_failed', null, jsonb_build_object(
          'part', p_part, 'code', p_code, 'message', p_message));
        v_known.noted_at := v_now;
      end if;
      insert into queue.failures as known (part, tries, first_failed_at, failed_at, next_at, code, message, noted_at)
      values (p_part, 1, v_now, v_now, v_now + p_wait, p_code, p_message, v_known.noted_at)
      on conflict on constraint failures_pkey do update set
        tries = known.tries + 1, first_failed_at = least(known.first_failed_at, v_now), failed_at = v_now,
        next_at = v_now + p_wait, code = p_code, message = p_message, noted_at = v_known.noted_at;
    end if;
  end if;
  return jsonb_build_object('part', p_part, 'code', p_code, 'message', p_message);
end;
$$;
comment on function queue.part_failed is
  'Remembers that a part of maintenance failed and when it is tried again; the audit trail hears of it at most once a day. Returns what to tell the caller.';

create function queue.part_succeeded(p_part text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  if exists (select from queue.failures as known where known.part = p_part) then
    delete from queue.failures
    where ctid = any (array(
      select known.ctid from queue.failures as known where known.part = p_part for update skip locked
    ));
  end if;
end;
$$;
comment on function queue.part_succeeded is 'Forgets the failures of a part of maintenance.';
