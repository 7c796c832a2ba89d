-- Where the HTTP worker sends jobs, and what it has to know before a run.

create table queue.routes (
  id integer generated always as identity,
  type_name text not null,
  tenants text[],
  function_name text,
  url text,
  method text not null default 'POST',
  headers jsonb not null default '{}',
  timeout_ms integer,
  report_ms integer,
  batch_size integer not null default 1,
  is_enabled boolean not null default true,
  constraint routes_pkey primary key (id),
  constraint routes_one_target check (function_name is null or url is null),
  constraint routes_function_name_sane check (function_name ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$'),
  constraint routes_url_sane check (url ~ '^https?://[^[:space:]]+$'),
  constraint routes_method_known check (method in ('POST', 'PUT')),
  constraint routes_url_without_credentials check (url !~ '^https?://[^/?#]*@'),
  constraint routes_headers_object check (jsonb_typeof(headers) = 'object'),
  -- One that can't be read would end every run, of all types.
  constraint routes_headers_sane check (not jsonb_path_exists(
    headers, '$.* ? (!(@.type() == "string" || (@.type() == "object" && @.env.type() == "string")))')),
  constraint routes_timeout_sane check (timeout_ms between 1 and 86400000),
  constraint routes_report_sane check (report_ms between 1000 and 604800000),
  constraint routes_batch_sane check (batch_size between 1 and 1000),
  constraint routes_tenants_not_empty check (cardinality(tenants) > 0),
  -- Jobs are claimed by type: those of some tenants can't be left to others.
  constraint routes_off_for_all check (is_enabled or tenants is null)
);
create unique index routes_target_idx on queue.routes (type_name, (coalesce(tenants, '{}')));
comment on table queue.routes is
  'Where jobs of a type are sent by the HTTP worker: a function of the project, or any URL. The first row that serves the job''s tenant counts, those that name tenants before the others.';
comment on column queue.routes.tenants is 'Only jobs of these tenants; null: all.';
comment on column queue.routes.headers is
  'Sent with every call. A value {"env": "NAME"} stands for what the worker''s environment calls NAME: secrets are not for tables.';
comment on column queue.routes.report_ms is 'How long a function that answers 202 has until it must have reported the end or asked for more time; null: 15 minutes.';
comment on column queue.routes.batch_size is 'How many jobs one call takes at most; more than 1: the function gets them as an array.';
comment on column queue.routes.is_enabled is 'False: the HTTP worker leaves jobs of this type to others, whatever their tenant.';

create function queue.set_route(
  p_type text, p_function text, p_url text, p_tenants text[], p_timeout_seconds numeric, p_headers jsonb, p_method text,
  p_report_seconds numeric, p_enabled boolean, p_batch integer
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id integer;
begin
  perform queue.check_name('job type', p_type, 'MR001');
  insert into queue.routes as route (
    type_name, tenants, function_name, url, method, headers, timeout_ms, report_ms, is_enabled, batch_size
  ) values (
    p_type, p_tenants, p_function, p_url, coalesce(p_method, 'POST'), coalesce(p_headers, '{}'),
    (p_timeout_seconds * 1000)::integer, (p_report_seconds * 1000)::integer, coalesce(p_enabled, true),
    coalesce(p_batch, 1)
  )
  on conflict (type_name, (coalesce(tenants, '{}'))) do update set
    function_name = excluded.function_name, url = excluded.url, method = excluded.method, headers = excluded.headers,
    timeout_ms = excluded.timeout_ms, report_ms = excluded.report_ms, is_enabled = excluded.is_enabled, batch_size = excluded.batch_size
  returning route.id into v_id;
  perform queue.note('route_set', null, jsonb_build_object(
    'type', p_type, 'tenants', p_tenants, 'function', p_function, 'url', p_url, 'enabled', p_enabled));
  return v_id;
end;
$$;
comment on function queue.set_route is 'Body of public.set_job_route. Raises MR001, and 23514 for a route that makes no sense.';

create function queue.remove_route(p_type text, p_tenants text[])
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from queue.routes as route
  where route.type_name = p_type and coalesce(route.tenants, '{}') = coalesce(p_tenants, '{}');
  if found then
    perform queue.note('route_removed', null, jsonb_build_object('type', p_type, 'tenants', p_tenants));
    return true;
  end if;
  return false;
end;
$$;
comment on function queue.remove_route is 'Body of public.remove_job_route.';

create function public.set_job_route(
  p_type text,
  p_function text default null,
  p_url text default null,
  p_tenants text[] default null,
  p_timeout_seconds numeric default null,
  p_headers jsonb default '{}',
  p_method text default 'POST',
  p_report_seconds numeric default null,
  p_enabled boolean default true,
  p_batch integer default 1
)
returns integer
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select queue.set_route(
    p_type, p_function, p_url, p_tenants, p_timeout_seconds, p_headers, p_method, p_report_seconds, p_enabled,
    p_batch);
$$;
comment on function public.set_job_route is
  'Says where jobs of a type are sent (of some tenants, or all): a function of the project, a URL, or with p_enabled false nowhere. Takes the place of the route for the same type and tenants; returns its id.';

create function public.remove_job_route(p_type text, p_tenants text[] default null)
returns boolean
language sql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
  select queue.remove_route(p_type, p_tenants);
$$;
comment on function public.remove_job_route is 'Takes back what set_job_route said for this type and these tenants; false when there was nothing.';

-- How long a type's jobs run is read from the newest runs: a sample, so that it costs the same with any history.
create function queue.run_plan()
returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return json_build_object(
    'routes', (
      select coalesce(json_agg(json_build_object(
        'type', route.type_name, 'tenants', route.tenants, 'function_name', route.function_name, 'url', route.url,
        'method', route.method, 'headers', route.headers, 'timeout_ms', route.timeout_ms, 'report_ms', route.report_ms,
        'is_enabled', route.is_enabled, 'batch_size', route.batch_size
      ) order by route.tenants is null, route.id), '[]') from queue.routes as route
    ),
    'types', (select coalesce(json_agg(type.name order by type.id), '[]') from queue.types as type),
    -- What others have handlers for. A gap between two of them is no reason to look for a function that was never meant.
    'served', (
      select coalesce(json_agg(distinct served.name), '[]')
      from queue.workers as worker, unnest(worker.type_names) as served (name)
      where worker.seen_at > queue.clock() - interval '1 day'
        and worker.details is not null and worker.details ->> 'kind' is distinct from 'edge'
    ),
    'usual_ms', (
      select coalesce(json_object_agg(type.name, usual.ms), '{}')
      from (
        select job.type_id, ceil(percentile_cont(0.95) within group (
          order by extract(epoch from run.finished_at - run.started_at)::double precision * 1000)) as ms
        from (
          select last.job_id, last.started_at, last.finished_at from queue.runs as last
          -- A function that reports later keeps no run waiting.
          where last.outcome = 'completed' and last.note -> 'is_handed_over' is null
          order by last.job_id desc limit 1000
        ) as run
        join queue.jobs as job on job.id = run.job_id
        group by job.type_id
      ) as usual
      join queue.types as type on type.id = usual.type_id
    )
  );
end;
$$;
comment on function queue.run_plan is
  'What a run of the HTTP worker begins with: all routes, the types there are, those that long-lived workers served within a day, and how many milliseconds the jobs of each take (95th percentile of the newest).';

create function queue.work_due(p_types text[], p_tenant_id text)
returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant_id integer := (select tenant.id from queue.tenants as tenant where tenant.name = p_tenant_id);
begin
  if p_tenant_id is not null and v_tenant_id is null then
    return json_build_object('pending', false, 'next_due_in_ms', null);
  end if;
  return (
    select json_build_object('pending', found.jobs -> 'pending', 'next_due_in_ms', found.jobs -> 'next_due_in_ms')
    from (
      select queue.open_jobs(
        null, null, array(select type.id from queue.types as type where type.name = any (p_types)), v_tenant_id
      ) as jobs
    ) as found
  );
end;
$$;
comment on function queue.work_due is 'Whether jobs of these types, of one tenant or all, may run now, and when the next falls due.';
