-- The ground: two schemas, the words of the machine, its clock, its settings, its roles.
--
-- `public` holds the contract (few functions and views, stable).
-- `queue` holds the machine (tables and internal functions, free to change) and is never exposed by PostgREST.
-- A job's status is the table its token stands in; see docs/states.md.
--
-- Functions qualify every name and pin search_path to pg_catalog, pg_temp. With the empty path temporary types would come before those of pg_catalog,
-- and a domain of the name jsonb, made by whoever may call a function, would run its check with the rights of the function's owner.

create schema queue;
comment on schema queue is
  'Millrace, the machine: tables and internal functions. Use the functions and views of schema public instead.';
revoke all on schema queue from public;

create type queue.job_status as enum (
  'blocked', 'scheduled', 'pending', 'processing', 'completed', 'failed', 'cancelled'
);
comment on type queue.job_status is 'Every status a job can have; the last three are final.';

create type queue.run_outcome as enum (
  'completed', 'failed', 'cancelled', 'lost', 'snoozed', 'released', 'redriven', 'expedited'
);
comment on type queue.run_outcome is
  'How an attempt ended (completed to released), or what an operator did to a job (cancelled, redriven, expedited).';

-- The only source of time. Read once per function into v_now. Tests replace it in their template database.
create function queue.clock()
returns timestamptz
language plpgsql
volatile
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return pg_catalog.clock_timestamp();
end;
$$;
comment on function queue.clock is 'The database''s clock: the only time the queue believes.';

create function queue.schema_version()
returns integer
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select 1;
$$;
comment on function queue.schema_version is
  'Version of this schema; a library refuses to work with one that is older than it needs.';

create function queue.serves_version()
returns integer
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select 1;
$$;
comment on function queue.serves_version is
  'The oldest version whose libraries this schema still serves: they go on, and start, after the migration, until all are replaced.';

create function queue.priority_rank(p_name text)
returns smallint
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return case p_name when 'critical' then 0 when 'high' then 1 when 'normal' then 2 when 'low' then 3 end::smallint;
end;
$$;
comment on function queue.priority_rank is 'Rank of a priority''s name, 0 is served first; null for an unknown name.';

create function queue.priority_name(p_rank smallint)
returns text
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return (array['critical', 'high', 'normal', 'low'])[p_rank + 1];
end;
$$;
comment on function queue.priority_name is 'Name of a priority''s rank.';

create table queue.settings (
  only_row boolean not null default true,
  max_payload_bytes integer not null default 1048576,
  completed_retention interval not null default '7 days',
  failed_retention interval not null default '90 days',
  partition_interval interval not null default '1 day',
  partition_span bigint not null default 100000000,
  worker_timeout interval not null default '60 seconds',
  constraint settings_pkey primary key (only_row),
  constraint settings_one_row check (only_row),
  constraint settings_payload_limit_sane check (max_payload_bytes between 1024 and 268435456),
  constraint settings_partition_span_sane check (partition_span between 1000000 and 1000000000000)
);
comment on table queue.settings is 'One row of settings, editable while everything runs.';
comment on column queue.settings.max_payload_bytes is
  'Largest payload in bytes, measured as jsonb before compression. Default 1 MiB.';
comment on column queue.settings.completed_retention is
  'A partition of jobs is dropped when all of its jobs ended at least this long ago.';
comment on column queue.settings.failed_retention is 'Dead letters are kept this long.';
comment on column queue.settings.partition_interval is 'How often a new partition of jobs and runs is begun.';
comment on column queue.settings.partition_span is 'How many ids a partition can hold: at least a million, because one call may use up a hundred thousand.';
comment on column queue.settings.worker_timeout is 'A worker that gave no sign of life for this long counts as gone.';
insert into queue.settings default values;

-- Who calls, even from inside a security definer function: PostgREST switches the role and leaves its name here.
create function queue.caller_role()
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(nullif(current_setting('role', true), 'none'), session_user);
end;
$$;
comment on function queue.caller_role is 'The role the caller acts as, seen through security definer.';

create function queue.actor()
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return queue.caller_role()
    || coalesce(':' || (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'), '');
end;
$$;
comment on function queue.actor is 'Who asks: the role, and the user id of the JWT where there is one.';

create function queue.is_end_user()
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text := coalesce(nullif(current_setting('role', true), 'none'), session_user);
begin
  if v_role in ('anon', 'authenticated') then
    return true;
  end if;
  -- A role of the application's own that has the rights of these, with a JWT or without. Most callers have not: they pay for one look.
  if pg_has_role(v_role, to_regrole('authenticated'), 'usage') is not true and (
    coalesce(current_setting('request.jwt.claims', true), '') = ''
    or pg_has_role(v_role, to_regrole('anon'), 'usage') is not true
  ) then
    return false;
  end if;
  if pg_has_role(v_role, to_regrole('service_role'), 'usage') or pg_has_role(v_role, to_regrole('millrace_worker'), 'usage') then
    return false;
  end if;
  return not pg_has_role(v_role, (select space.nspowner from pg_catalog.pg_namespace as space where space.nspname = 'queue'), 'usage');
end;
$$;
comment on function queue.is_end_user is
  'True for the roles of browsers and roles that inherit from them: they may enqueue allowed types for their own tenant and read their own jobs.';

-- Only app_metadata is believed: users can edit their own user_metadata.
create function queue.caller_tenant()
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb #>> '{app_metadata,tenant_id}';
end;
$$;
comment on function queue.caller_tenant is 'The tenant named by app_metadata.tenant_id of the caller''s JWT, or null.';

create function queue.caller_app_role()
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb #>> '{app_metadata,role}';
end;
$$;
comment on function queue.caller_app_role is 'The role an application gave the caller, app_metadata.role of the JWT, or null.';

-- Schemas of the platform are known by their names. Who may make schemas in this database could lend one of these, with functions that our owner
-- would run.
create function queue.is_trusted_schema(p_name text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from pg_catalog.pg_namespace as space
    join pg_catalog.pg_roles as maker on maker.oid = space.nspowner
    cross join pg_catalog.pg_namespace as own
    join pg_catalog.pg_roles as owner on owner.oid = own.nspowner
    where space.nspname = p_name and own.nspname = 'queue' and (
      maker.rolsuper or maker.oid = owner.oid
      -- A superuser counts as a member of every role.
      or (not owner.rolsuper and pg_has_role(owner.oid, maker.oid, 'member'))
    )
  );
end;
$$;
comment on function queue.is_trusted_schema is
  'True for a schema that belongs to a superuser, to the owner of this one, or to a role that he is a member of; false also when there is none of this name.';

-- The worker's role: no login of its own, granted to whoever runs workers.
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'millrace_worker') then
    create role millrace_worker nologin;
  end if;
exception
  when duplicate_object or unique_violation then
    null; -- another database of this cluster is being migrated at the same time
  when insufficient_privilege then
    raise notice 'role millrace_worker was not created: this role has no CREATEROLE; create it and run queue.grant_access()';
end;
$$;
