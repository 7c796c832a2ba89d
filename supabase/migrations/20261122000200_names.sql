-- Names as rows: queues, job types, tenants. They are interned to small integers so that tokens stay narrow,
-- and they carry the settings that people may change while everything runs.
--
-- Locks: interning a new name holds its unique index entry until the caller commits; known names lock nothing. Nobody waits for such
-- an entry of somebody else: a job that needs one is written as an arrival (queue.arrivals).

create table queue.queues (
  id integer generated always as identity,
  name text not null,
  is_paused boolean not null default false,
  paused_at timestamptz,
  paused_reason text,
  is_fifo boolean not null default false,
  constraint queues_pkey primary key (id),
  constraint queues_name_key unique (name),
  constraint queues_paused_says_when check (is_paused = (paused_at is not null))
);
comment on table queue.queues is 'The named lines of jobs. A job''s queue is its type unless said otherwise.';
comment on column queue.queues.is_fifo is
  'True: one lane for all tenants, strictly oldest first. False: tenants are served in turn. A change holds for jobs that become ready after it.';

create table queue.types (
  id integer generated always as identity,
  name text not null,
  max_retries smallint not null default 3,
  backoff_base_ms integer not null default 1000,
  backoff_cap_ms integer not null default 3600000,
  backoff_jitter real not null default 0.5,
  is_public boolean not null default false,
  allowed_roles text[] not null default '{}',
  constraint types_pkey primary key (id),
  constraint types_name_key unique (name),
  constraint types_max_retries_sane check (max_retries between 0 and 10000),
  constraint types_backoff_sane check (
    backoff_base_ms between 0 and 86400000
    and backoff_cap_ms between 0 and 2147483647
    and backoff_jitter between 0 and 1
  )
);
comment on table queue.types is 'Job types with their defaults for retries.';
comment on column queue.types.backoff_jitter is
  'Share of the delay that is random: 0.5 means between half and the whole of it.';
comment on column queue.types.is_public is 'All signed-in end users may enqueue this type for their own tenant.';
comment on column queue.types.allowed_roles is
  'End users whose app_metadata.role is one of these may enqueue this type for their own tenant, public or not.';

create table queue.tenants (
  id integer generated always as identity,
  name text not null,
  weight smallint not null default 1,
  constraint tenants_pkey primary key (id),
  constraint tenants_name_key unique (name),
  constraint tenants_weight_positive check (weight between 1 and 1000)
);
create index tenants_weighted_idx on queue.tenants (id) where weight <> 1;
comment on table queue.tenants is 'Tenants that ever had a job. Jobs without a tenant have tenant 0, which has no row.';
comment on column queue.tenants.weight is 'Share of a fair claim: a tenant of weight 2 gets twice the jobs of weight 1.';

-- No foreign keys: each would lock the row of the type and of the queue, and who holds one of them would delay the jobs of a new pair.
create table queue.type_queues (
  type_id integer not null,
  queue_id integer not null,
  constraint type_queues_pkey primary key (type_id, queue_id)
);
create index type_queues_queue_idx on queue.type_queues (queue_id);
comment on table queue.type_queues is 'Which queues ever held jobs of a type: where a claim by type has to look.';

create function queue.check_name(p_kind text, p_name text, p_errcode text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_name is null or p_name !~ '^[^[:space:][:cntrl:]]{1,200}$' then
    raise exception 'invalid %: %', p_kind, coalesce(quote_literal(left(p_name, 80)), 'null')
      using errcode = p_errcode,
        detail = 'It must have 1 to 200 characters, none of them a space or a control character.',
        hint = 'Use a name such as email, billing.receipt or ingest_slack.';
  end if;
end;
$$;
comment on function queue.check_name is 'Raises p_errcode unless p_name can be the name of a type or queue.';

create function queue.check_tenant(p_name text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_name !~ '^[^[:cntrl:]]{1,200}$' then
    raise exception 'invalid tenant: %', quote_literal(left(p_name, 80))
      using errcode = 'MR012',
        detail = 'It must have 1 to 200 characters, none of them a control character.',
        hint = 'Pass your own id of the tenant, or null for a job without one.';
  end if;
end;
$$;
comment on function queue.check_tenant is 'Raises MR012 unless p_name is null or can be the name of a tenant.';

-- Looks first and inserts only on a miss: "on conflict" burns a sequence value at each call.
create function queue.intern_type(p_name text)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id integer;
begin
  select type.id into v_id from queue.types as type where type.name = p_name;
  if v_id is null then
    perform queue.check_name('job type', p_name, 'MR001');
    insert into queue.types as type (name) values (p_name)
    on conflict (name) do update set name = excluded.name
    returning type.id into v_id;
  end if;
  return v_id;
end;
$$;
comment on function queue.intern_type is 'The id of a job type; makes the type when it is new. Raises MR001.';

create function queue.intern_queue(p_name text)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id integer;
begin
  select line.id into v_id from queue.queues as line where line.name = p_name;
  if v_id is null then
    perform queue.check_name('queue', p_name, 'MR011');
    insert into queue.queues as line (name) values (p_name)
    on conflict (name) do update set name = excluded.name
    returning line.id into v_id;
  end if;
  return v_id;
end;
$$;
comment on function queue.intern_queue is 'The id of a queue; makes the queue when it is new. Raises MR011.';

create function queue.intern_tenant(p_name text)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id integer;
begin
  if p_name is null then
    return 0;
  end if;
  select tenant.id into v_id from queue.tenants as tenant where tenant.name = p_name;
  if v_id is null then
    perform queue.check_tenant(p_name);
    insert into queue.tenants as tenant (name) values (p_name)
    on conflict (name) do update set name = excluded.name
    returning tenant.id into v_id;
  end if;
  return v_id;
end;
$$;
comment on function queue.intern_tenant is 'The id of a tenant, 0 for none; makes the tenant when it is new. Raises MR012.';

create function queue.try_name(p_kind text, p_name text)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '5ms'
as $$
begin
  return case p_kind
    when 'type' then queue.intern_type(p_name)
    when 'queue' then queue.intern_queue(p_name)
    else queue.intern_tenant(p_name)
  end;
exception
  when lock_not_available or serialization_failure or deadlock_detected then
    return null;
end;
$$;
comment on function queue.try_name is
  'The id of a type, queue or tenant, which is made when it is new; null while an open transaction is making it.';

create function queue.intern_type_queue(p_type_id integer, p_queue_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from queue.type_queues as pair where pair.type_id = p_type_id and pair.queue_id = p_queue_id
  ) then
    insert into queue.type_queues (type_id, queue_id) values (p_type_id, p_queue_id) on conflict do nothing;
  end if;
end;
$$;
comment on function queue.intern_type_queue is 'Remembers that a queue holds jobs of a type.';

-- The way of a job whose type, queue or tenant is new. It is a statement of its own: what it makes, the caller's look can't see.
-- The lock_timeout is what another transaction has to commit a name that it has just made. A wait without end could last for hours, and
-- two transactions that make two names in opposite order would deadlock. In a snapshot that does not see the other's name, inserting
-- it fails to serialize, which is the same case.
create function queue.intern_names(
  p_type text, p_queue text, p_tenant_id text,
  out o_type_id integer, out o_queue_id integer, out o_tenant_id integer, out o_max_retries smallint, out o_is_fifo boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '5ms'
as $$
begin
  perform queue.check_name('job type', p_type, 'MR001');
  perform queue.check_name('queue', coalesce(p_queue, p_type), 'MR011');
  perform queue.check_tenant(p_tenant_id);
  o_type_id := queue.intern_type(p_type);
  o_queue_id := queue.intern_queue(coalesce(p_queue, p_type));
  o_tenant_id := queue.intern_tenant(p_tenant_id);
  perform queue.intern_type_queue(o_type_id, o_queue_id);
  select type.max_retries, line.is_fifo into o_max_retries, o_is_fifo
  from queue.types as type, queue.queues as line
  where type.id = o_type_id and line.id = o_queue_id;
exception
  when lock_not_available or serialization_failure or deadlock_detected then
    o_type_id := null;
    o_queue_id := null;
    o_tenant_id := null;
end;
$$;
comment on function queue.intern_names is
  'Makes the names of a job that are new; returns their ids, and what type and queue say. All null when an open transaction is making one of them. Raises MR001, MR011 or MR012.';
