-- A simple caller's worker: known by the name it gives, alive while it keeps asking. Changes no status.
--
-- Locks: the worker's row, with skip locked; a new name is waited for 5 ms.

create function queue.make_worker(p_name text, p_types text[])
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '5ms'
as $$
declare
  v_now timestamptz := queue.clock();
  v_id integer;
begin
  insert into queue.workers as worker (name, started_at, seen_at, is_registered, type_names)
  values (p_name, v_now, v_now, true, p_types)
  on conflict (name) do update set seen_at = v_now, is_registered = true, type_names = p_types
  returning worker.id into v_id;
  return v_id;
exception
  when lock_not_available then
    -- A transaction that is still open makes a worker of this name. Ours is told apart by its session.
    return queue.sign_in(left(p_name, 180) || '#' || pg_backend_pid(), p_types);
end;
$$;
comment on function queue.make_worker is
  'Makes the worker of a simple caller; one of another name where somebody else is just making it.';

-- A simple caller's worker: known by the name it gives, alive while it keeps asking.
create function queue.sign_in(p_name text, p_types text[])
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := queue.clock();
  v_worker queue.workers;
begin
  if p_name is null or char_length(p_name) not between 1 and 200 then
    raise exception 'invalid worker id: %', coalesce(quote_literal(left(p_name, 80)), 'null')
      using errcode = 'MR013', detail = 'It must have 1 to 200 characters.', hint = 'Use a new UUID for each start of a process.';
  end if;
  select worker.* into v_worker from queue.workers as worker where worker.name = p_name;
  -- A write for each claim would be waste: a sign of life every few seconds is enough.
  if v_worker.id is null or v_worker.seen_at not between v_now - interval '5 seconds' and v_now
    or not v_worker.is_registered
  then
    if v_worker.seen_at > v_now then
      perform queue.follow_clock();
    end if;
    if v_worker.id is not null then
      -- Who claims in a transaction that stays open holds the row; others of this name don't wait for it.
      update queue.workers as worker set seen_at = v_now, is_registered = true, type_names = p_types
      where worker.id = (select held.id from queue.workers as held where held.id = v_worker.id for no key update skip locked);
    else
      v_worker.id := queue.make_worker(p_name, p_types);
    end if;
  end if;
  return v_worker.id;
end;
$$;
comment on function queue.sign_in is 'The id of a simple caller''s worker; makes it when it is new. Raises MR013.';
