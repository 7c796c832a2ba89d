-- Reads the array of jobs that enqueue_jobs is given. Changes nothing, locks nothing.

create type queue.job_input as (
  ordinal bigint,
  type text,
  payload jsonb,
  priority text,
  scheduled_at timestamptz,
  tenant_id text,
  queue text,
  max_retries integer,
  depends_on bigint[],
  idempotency_key text,
  options jsonb,
  ref text,
  depends_on_refs text[]
);
comment on type queue.job_input is 'One element of the array that enqueue_jobs takes.';

create function queue.parse_jobs(p_jobs jsonb)
returns queue.job_input[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_fault text;
  v_jobs queue.job_input[];
begin
  if jsonb_typeof(p_jobs) is distinct from 'array' then
    v_fault := 'it must be a JSON array';
  elsif jsonb_array_length(p_jobs) > 100000 then
    v_fault := format('%s jobs in one call, the limit is 100000', jsonb_array_length(p_jobs));
  else
    select format('element %s is not an object', item.ordinal) into v_fault
    from jsonb_array_elements(p_jobs) with ordinality as item (value, ordinal)
    where jsonb_typeof(item.value) <> 'object'
    limit 1;
    if v_fault is null then
      select format('element %s has the unknown field %s', item.ordinal, quote_literal(field.key)) into v_fault
      from jsonb_array_elements(p_jobs) with ordinality as item (value, ordinal),
        jsonb_object_keys(item.value) as field (key)
      where field.key not in (
        'type', 'payload', 'priority', 'scheduled_at', 'tenant_id', 'queue', 'max_retries', 'depends_on',
        'idempotency_key', 'options', 'ref', 'depends_on_refs'
      )
      limit 1;
    end if;
  end if;
  if v_fault is null then
    begin
      select array_agg(
        (
          item.ordinal, item.type, coalesce(item.payload, '{}'), coalesce(item.priority, 'normal'),
          item.scheduled_at, item.tenant_id, coalesce(item.queue, item.type), item.max_retries,
          item.depends_on, item.idempotency_key, nullif(item.options, 'null'), item.ref, item.depends_on_refs
        )::queue.job_input
        order by item.ordinal
      ) into v_jobs
      from rows from (jsonb_to_recordset(p_jobs) as (
        type text, payload jsonb, priority text, scheduled_at timestamptz, tenant_id text, queue text,
        max_retries integer, depends_on bigint[], idempotency_key text, options jsonb, ref text,
        depends_on_refs text[]
      )) with ordinality as item (
        type, payload, priority, scheduled_at, tenant_id, queue, max_retries, depends_on, idempotency_key,
        options, ref, depends_on_refs, ordinal
      );
    exception
      when data_exception then
        v_fault := queue.find_unreadable(p_jobs, sqlerrm);
    end;
  end if;
  if v_fault is not null then
    raise exception 'invalid jobs: %', v_fault
      using errcode = 'MR015',
        detail = 'Expected an array of up to 100000 objects with type, payload, priority, scheduled_at and so on.',
        hint = 'Pass for example [{"type": "email", "payload": {"to": "user@example.com"}}].';
  end if;
  return v_jobs;
end;
$$;
comment on function queue.parse_jobs is 'Reads the array of enqueue_jobs. Raises MR015 for anything that is not one.';

-- Only when the array as a whole could not be read: one by one.
create function queue.find_unreadable(p_jobs jsonb, p_fault text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_item record;
begin
  for v_item in
    select item.value, item.ordinal from jsonb_array_elements(p_jobs) with ordinality as item (value, ordinal)
  loop
    begin
      perform from jsonb_to_record(v_item.value) as item (
        type text, payload jsonb, priority text, scheduled_at timestamptz, tenant_id text, queue text,
        max_retries integer, depends_on bigint[], idempotency_key text, options jsonb, ref text, depends_on_refs text[]);
    exception
      when data_exception then
        return format('element %s: %s', v_item.ordinal, sqlerrm);
    end;
  end loop;
  return p_fault;
end;
$$;
comment on function queue.find_unreadable is 'Which element of an array of jobs has a value of the wrong type, and what is wrong with it.';
