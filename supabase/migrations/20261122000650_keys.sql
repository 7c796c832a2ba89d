-- Idempotency keys: the second enqueue with a key gets the first job.
--
-- A key belongs to a tenant, a type, and to either end users or everybody else, so that nobody's key hides the job of another. That
-- scope is a digest of names and not their ids: a key holds for a job whose names another transaction is just making.
-- A cancelled job's key goes to the next job that asks for it; every other job keeps its key as long as its facts.
--
-- Locks: a new key's index entry until the caller commits: who comes with the same key waits, and nobody else. For keys that change
-- hands the newest runs of the cancelled jobs, in id order, as retry_job and a redrive do.

create function queue.key_scope(p_tenant_id text, p_type text, p_is_end_user boolean)
returns bytea
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- No name contains a line feed, and no tenant is empty.
  return substr(sha256(convert_to(
    coalesce(p_tenant_id, '') || E'\n' || p_type || E'\n' || case when p_is_end_user then 'user' else 'service' end, 'UTF8')), 1, 16);
end;
$$;
comment on function queue.key_scope is 'What an idempotency key is unique within: the tenant, the type, and whether an end user gave it.';

create function queue.refuse_key(p_key text, p_job_id bigint, p_ordinal bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '%the idempotency key % belongs to job %, which has another payload',
    coalesce('element ' || p_ordinal || ': ', ''), quote_literal(left(p_key, 80)), p_job_id
    using errcode = 'MR017', detail = p_job_id::text,
      hint = 'Use another key for another job, or the option {"on_key_conflict": "return"} to get the first job whatever its payload.';
end;
$$;
comment on function queue.refuse_key is 'Raises MR017, with the id of the job that has the key as its detail.';

create function queue.payload_of(p_job_id bigint)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return coalesce(
    (select job.payload from queue.jobs as job where job.id = p_job_id),
    (select arrival.payload from queue.arrivals as arrival where arrival.id = p_job_id)
  );
end;
$$;
comment on function queue.payload_of is 'The payload of a job, whether or not its names are made; null for an unknown job.';

-- The slow way of a single key: somebody has it.
create function queue.resolve_key(p_scope bytea, p_key text, p_id bigint)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_known bigint;
begin
  loop
    select held.job_id into v_known from queue.idempotency_keys as held where held.scope = p_scope and held.key = p_key;
    if v_known is null then
      insert into queue.idempotency_keys (scope, key, job_id) values (p_scope, p_key, p_id) on conflict do nothing;
      if found then
        return p_id;
      end if;
    elsif coalesce(queue.status_of(v_known), 'cancelled') <> 'cancelled' then
      return v_known;
    else
      -- A retry in flight comes first: then the job is no longer cancelled.
      perform queue.hold_ended(array[v_known]);
      update queue.idempotency_keys as held set job_id = p_id
      where held.scope = p_scope and held.key = p_key and held.job_id = v_known
        and coalesce(queue.status_of(v_known), 'cancelled') = 'cancelled';
      if found then
        return p_id;
      end if;
    end if;
  end loop;
  return null; -- never: the loop ends by returning
end;
$$;
comment on function queue.resolve_key is
  'The job that has a key: the one that had it, or p_id when that was cancelled or there is none. Waits for a transaction that is just taking it.';

-- Joined by hash: where one row is wanted, the planner hopes to find it early and compares each job with all others until then.
create function queue.key_conflict(p_jobs queue.job_input[], p_ids bigint[], p_known bigint[])
returns table (ordinal bigint, key text, job_id bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
set enable_mergejoin = off
set jit = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  select item.ordinal::bigint, item.idempotency_key, met.known_id
  from unnest(p_jobs) as item
  join unnest(p_ids, p_known) with ordinality as met (id, known_id, ordinal) on met.ordinal = item.ordinal
  left join (
    select made.id, first.payload
    from unnest(p_ids) with ordinality as made (id, ordinal) join unnest(p_jobs) as first on first.ordinal = made.ordinal
  ) as own on own.id = met.known_id
  where met.known_id <> met.id and item.options ->> 'on_key_conflict' is distinct from 'return'
    and item.payload is distinct from coalesce(own.payload, queue.payload_of(met.known_id))
  order by item.ordinal limit 1;
end;
$$;
comment on function queue.key_conflict is
  'The first of these jobs whose key belongs to a job with another payload. p_known: the job that has the key, for each of p_ids.';

-- Returns the ids of the jobs as they are after their keys were looked up, and which of them are new.
create function queue.take_keys(
  p_jobs queue.job_input[], p_ids bigint[], p_is_end_user boolean, out o_ids bigint[], out o_is_new boolean[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan
as $$
declare
  v_ordinals bigint[];
  v_scopes bytea[];
  v_keys text[];
  v_free_scopes bytea[];
  v_free_keys text[];
  v_free_ordinals bigint[];
  v_freed bigint[];
  v_is_gone boolean;
  v_fault record;
begin
  -- In the order of keys, so that two calls that bring the same new ones can't deadlock.
  select array_agg(item.ordinal order by scope.id, item.idempotency_key, item.ordinal),
    array_agg(scope.id order by scope.id, item.idempotency_key, item.ordinal),
    array_agg(item.idempotency_key order by scope.id, item.idempotency_key, item.ordinal)
  into v_ordinals, v_scopes, v_keys
  from unnest(p_jobs) as item
  join (
    select pair.type, pair.tenant, queue.key_scope(nullif(pair.tenant, ''), pair.type, p_is_end_user) as id
    from (select distinct given.type, coalesce(given.tenant_id, '') as tenant from unnest(p_jobs) as given) as pair
  ) as scope on scope.type = item.type and scope.tenant = coalesce(item.tenant_id, '')
  where item.idempotency_key is not null;

  loop
    insert into queue.idempotency_keys (scope, key, job_id)
    select wanted.scope, wanted.key, p_ids[wanted.ordinal]
    from unnest(v_ordinals, v_scopes, v_keys) with ordinality as wanted (ordinal, scope, key, position)
    order by wanted.position
    on conflict do nothing;

    select array_agg(free.scope), array_agg(free.key), array_agg(free.ordinal), array_agg(free.job_id)
    into v_free_scopes, v_free_keys, v_free_ordinals, v_freed
    from (
      select held.scope, held.key, held.job_id, min(wanted.ordinal) as ordinal
      from unnest(v_ordinals, v_scopes, v_keys) as wanted (ordinal, scope, key)
      join queue.idempotency_keys as held on held.scope = wanted.scope and held.key = wanted.key
      left join queue.jobs as job on job.id = held.job_id
      left join queue.arrivals as arrival on arrival.id = held.job_id
      where held.job_id <> all (p_ids) and case
        when job.id is null then arrival.id is null or arrival.cancelled_at is not null
        else (
          select run.to_status from queue.runs as run
          where run.job_id = held.job_id order by run.lease_id desc limit 1
        ) is not distinct from 'cancelled'
      end
      group by held.scope, held.key, held.job_id order by held.scope, held.key
    ) as free;
    -- All at once and in id order, as a redrive holds them.
    if v_freed is not null then
      perform queue.hold_ended(v_freed);
    end if;
    for v_at in 1..coalesce(cardinality(v_freed), 0) loop
      perform queue.resolve_key(v_free_scopes[v_at], v_free_keys[v_at], p_ids[v_free_ordinals[v_at]]);
    end loop;

    select array_agg(coalesce(held.job_id, given.id) order by given.ordinal),
      array_agg(coalesce(held.job_id = given.id, true) order by given.ordinal),
      bool_or(wanted.key is not null and held.key is null)
    into o_ids, o_is_new, v_is_gone
    from unnest(p_ids) with ordinality as given (id, ordinal)
    left join unnest(v_ordinals, v_scopes, v_keys) as wanted (ordinal, scope, key) on wanted.ordinal = given.ordinal
    left join queue.idempotency_keys as held on held.scope = wanted.scope and held.key = wanted.key;
    -- The job of a known key was purged while this waited for another one.
    exit when v_is_gone is not true;
  end loop;

  if false = any (o_is_new) then
    select conflict.* into v_fault from queue.key_conflict(p_jobs, p_ids, o_ids) as conflict;
    if found then
      perform queue.refuse_key(v_fault.key, v_fault.job_id, case when cardinality(p_jobs) > 1 then v_fault.ordinal end);
    end if;
  end if;
end;
$$;
comment on function queue.take_keys is
  'Takes the keys of a call''s jobs; returns the jobs'' ids, those of the first jobs where keys were known, and which are new. Raises MR017.';
