-- The rules about a single job, each with the error that says how to mend it. Changes nothing, locks nothing.

create function queue.check_options(p_options jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_fault text;
begin
  if p_options is null then
    return;
  end if;
  if jsonb_typeof(p_options) <> 'object' then
    v_fault := 'they must be a JSON object';
  else
    select format('unknown option %s', quote_literal(given.key)) into v_fault
    from jsonb_object_keys(p_options) as given (key)
    where given.key not in ('backoff', 'timeout_ms', 'on_parent_failure', 'on_key_conflict')
    limit 1;
    v_fault := coalesce(v_fault, case
      when p_options ? 'timeout_ms' and not queue.is_integer(p_options -> 'timeout_ms', 1, 2147483647)
        then 'timeout_ms must be an integer of milliseconds from 1 to 2147483647'
      when p_options ? 'on_parent_failure' and coalesce(p_options ->> 'on_parent_failure', '') not in ('cancel', 'run')
        then 'on_parent_failure must be "cancel" or "run"'
      when p_options ? 'on_key_conflict' and coalesce(p_options ->> 'on_key_conflict', '') not in ('error', 'return')
        then 'on_key_conflict must be "error" or "return"'
      when p_options ? 'backoff' and jsonb_typeof(p_options -> 'backoff') <> 'object'
        then 'backoff must be an object of base_ms, cap_ms and jitter'
    end);
    if v_fault is null and p_options ? 'backoff' then
      select format('unknown option backoff.%s', given.key) into v_fault
      from jsonb_object_keys(p_options -> 'backoff') as given (key)
      where given.key not in ('base_ms', 'cap_ms', 'jitter')
      limit 1;
      v_fault := coalesce(v_fault, case
        when p_options -> 'backoff' ? 'base_ms' and not queue.is_integer(p_options #> '{backoff,base_ms}', 0, 86400000)
          then 'backoff.base_ms must be an integer from 0 to 86400000'
        when p_options -> 'backoff' ? 'cap_ms' and not queue.is_integer(p_options #> '{backoff,cap_ms}', 0, 2147483647)
          then 'backoff.cap_ms must be an integer from 0 to 2147483647'
        when p_options -> 'backoff' ? 'jitter' and not (
          jsonb_typeof(p_options #> '{backoff,jitter}') = 'number'
          and (p_options #>> '{backoff,jitter}')::numeric between 0 and 1
        ) then 'backoff.jitter must be a number from 0 to 1'
      end);
    end if;
  end if;
  if v_fault is not null then
    raise exception 'invalid options: %', v_fault
      using errcode = 'MR010', detail = left(p_options::text, 200),
        hint = 'Known options: backoff {base_ms, cap_ms, jitter}, timeout_ms, on_parent_failure, on_key_conflict.';
  end if;
end;
$$;
comment on function queue.check_options is 'Raises MR010 unless p_options is null or an object of known options.';

create function queue.is_integer(p_value jsonb, p_least numeric, p_most numeric)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when jsonb_typeof(p_value) = 'number'
    then (p_value #>> '{}')::numeric between p_least and p_most and (p_value #>> '{}')::numeric % 1 = 0
    else false
  end;
end;
$$;
comment on function queue.is_integer is 'True for a JSON number without fraction within these bounds.';

-- Every rule about a single job, with the error that says how to mend it.
create function queue.check_job(
  p_payload jsonb,
  p_priority text,
  p_scheduled_at timestamptz,
  p_max_retries integer,
  p_idempotency_key text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_limit integer;
  -- The empty path unpacks a payload that comes compressed from a table.
  v_bytes integer := pg_column_size(p_payload #> '{}');
begin
  if queue.priority_rank(p_priority) is null then
    raise exception 'unknown priority: %', quote_literal(left(p_priority, 80))
      using errcode = 'MR002', detail = 'A priority is one of critical, high, normal, low.',
        hint = 'Leave it out for normal.';
  end if;
  select settings.max_payload_bytes into v_limit from queue.settings;
  if v_bytes > v_limit then
    raise exception 'payload too large: % bytes', v_bytes
      using errcode = 'MR004', detail = format('The limit is %s bytes, measured as jsonb.', v_limit),
        hint = 'Store the data elsewhere and enqueue a reference, or raise queue.settings.max_payload_bytes.';
  end if;
  if not isfinite(p_scheduled_at) then
    raise exception 'invalid scheduled time: %', p_scheduled_at
      using errcode = 'MR005', detail = 'A job can''t be scheduled at an infinite time.', hint = 'Pass a finite time.';
  end if;
  if p_max_retries not between 0 and 10000 then
    raise exception 'invalid max_retries: %', p_max_retries
      using errcode = 'MR006', detail = 'It must be from 0 to 10000.',
        hint = '0 means a single attempt; the default of 3 means up to four.';
  end if;
  if char_length(p_idempotency_key) not between 1 and 255 then
    raise exception 'invalid idempotency key of % characters', char_length(p_idempotency_key)
      using errcode = 'MR009', detail = 'It must have 1 to 255 characters.',
        hint = 'Hash a longer key, or pass null for none.';
  end if;
end;
$$;
comment on function queue.check_job is 'Raises MR002, MR004, MR005, MR006 or MR009 for the first rule a job breaks.';

-- A number such as 1e131071 takes 16 bytes as jsonb and 131 kB as text. Few of them would make a job that no answer can hold, and a claim that
-- fails for all that it would have claimed. The path is asked first: to write them out would take the memory that is to be saved.
create function queue.is_bloated(p_payload jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_path_exists(p_payload, 'strict $.** ? (@.type() == "number" && @ != 0 && (@.abs() > 1e400 || @.abs() < 1e-400))')
    or octet_length(p_payload::text) > 8 * pg_column_size(p_payload #> '{}') + 4096;
end;
$$;
comment on function queue.is_bloated is 'True when a payload holds numbers with so many digits that it is much longer as text than as jsonb.';

create function queue.refuse_bloated(p_ordinal bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '%payload too large: numbers with hundreds of digits', coalesce('element ' || p_ordinal || ': ', '')
    using errcode = 'MR004', detail = 'As text it may have at most 8 times as many bytes as jsonb, and 4096 more.',
      hint = 'Pass such numbers as strings.';
end;
$$;
comment on function queue.refuse_bloated is 'Raises MR004 for a payload that is_bloated; p_ordinal names the element of a call with several.';
