-- What signed-in end users may enqueue: types that are public or allowed to their role, for their own tenant, and not
-- more than its quota. Nothing here is called for anybody else.
--
-- Locks: the tenant's row of queue.user_quotas until the caller commits, so that of two callers one counts what the
-- other made; tenants without a quota have no such row.

alter table queue.settings
  add column user_max_open_jobs integer default 1000,
  add column user_jobs_per_minute integer,
  add constraint settings_user_quotas_sane check (user_max_open_jobs >= 0 and user_jobs_per_minute >= 0);
comment on column queue.settings.user_max_open_jobs is
  'Most jobs that the end users of one tenant may have enqueued and that have not ended; null: no limit.';
comment on column queue.settings.user_jobs_per_minute is
  'Most jobs that the end users of one tenant may enqueue in a minute, which begins with its first job; null: no limit.';

alter table queue.tenants
  add column user_max_open_jobs integer,
  add column user_jobs_per_minute integer,
  add constraint tenants_user_quotas_sane check (user_max_open_jobs >= 0 and user_jobs_per_minute >= 0);
comment on column queue.tenants.user_max_open_jobs is 'What holds for this tenant instead of the setting of this name; null: the setting.';
comment on column queue.tenants.user_jobs_per_minute is 'What holds for this tenant instead of the setting of this name; null: the setting.';

create table queue.user_quotas (
  tenant_id text not null,
  minute_began_at timestamptz not null,
  minute_jobs integer not null,
  constraint user_quotas_pkey primary key (tenant_id)
) with (fillfactor = 70);
comment on table queue.user_quotas is
  'How much end users of a tenant enqueued in the current minute; who counts holds the row. By the tenant''s name: its id may not be known yet.';

create table queue.user_jobs (
  tenant_id text not null,
  job_id bigint not null,
  constraint user_jobs_pkey primary key (tenant_id, job_id)
);
comment on table queue.user_jobs is
  'Jobs that end users enqueued under a quota of open jobs. Those that ended go when there is no room left.';

create function queue.authorize_enqueue(p_type text, p_tenant_id text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := queue.caller_tenant();
begin
  if v_tenant is null then
    raise exception 'not allowed to enqueue: the token names no tenant'
      using errcode = '42501', detail = 'app_metadata.tenant_id is missing in the JWT.',
        hint = 'Set app_metadata.tenant_id of the user on the server.';
  end if;
  if p_tenant_id is distinct from v_tenant and p_tenant_id is not null then
    raise exception 'not allowed to enqueue for tenant %', quote_literal(left(p_tenant_id, 80))
      using errcode = '42501', detail = 'The token belongs to another tenant.', hint = 'Leave p_tenant_id out.';
  end if;
  if not exists (
    select from queue.types as type
    where type.name = p_type and (type.is_public or queue.caller_app_role() = any (type.allowed_roles))
  ) then
    raise exception 'not allowed to enqueue jobs of type %', coalesce(quote_literal(left(p_type, 80)), 'null')
      using errcode = '42501', detail = 'End users may enqueue public types, and those allowed to their app_metadata.role.',
        hint = 'update queue.types set is_public = true where name = ..., or name the role in allowed_roles.';
  end if;
  return v_tenant;
end;
$$;
comment on function queue.authorize_enqueue is
  'The tenant an end user''s job belongs to. Raises 42501 for another tenant, a type that is neither public nor allowed to the role, or a token without tenant.';

create function queue.hold_quota(p_tenant_id text, p_count integer)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_most integer;
begin
  select least(
    coalesce(tenant.user_max_open_jobs, settings.user_max_open_jobs),
    coalesce(tenant.user_jobs_per_minute, settings.user_jobs_per_minute)
  ) into v_most
  from queue.settings left join queue.tenants as tenant on tenant.name = p_tenant_id;
  if v_most is null then
    return false;
  end if;
  -- Whatever is known of them by their keys: each refused call would use up as many ids, which end for everybody.
  if p_count > greatest(v_most, 1000) then
    raise exception 'quota exceeded: % jobs in one call', p_count
      using errcode = 'MR016', detail = format('A call may have %s.', greatest(v_most, 1000)), hint = 'Make several calls.';
  end if;
  -- A row that is there is locked, and not written.
  insert into queue.user_quotas as quota (tenant_id, minute_began_at, minute_jobs)
  values (p_tenant_id, queue.clock(), 0)
  on conflict (tenant_id) do update set minute_jobs = 0 where false;
  return true;
end;
$$;
comment on function queue.hold_quota is
  'Makes other end users of a tenant with a quota wait until the caller commits; false when it has none. Raises MR016 for a call of more jobs than it could ever have.';

-- Called while the quota is held, with the jobs that are new: a repeated idempotency key costs nothing.
create function queue.charge_quota(p_tenant_id text, p_job_ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_count integer := cardinality(p_job_ids);
  v_quota record;
  v_minute record;
  v_open integer;
  v_ended bigint[];
begin
  if v_count = 0 then
    return;
  end if;
  select coalesce(tenant.user_max_open_jobs, settings.user_max_open_jobs) as open_jobs,
    coalesce(tenant.user_jobs_per_minute, settings.user_jobs_per_minute) as per_minute
  into v_quota
  from queue.settings left join queue.tenants as tenant on tenant.name = p_tenant_id;

  -- Written whatever the quota is: a caller with an older snapshot must fail to serialize and not count too little.
  update queue.user_quotas as quota
  set minute_began_at = case when fresh.is_new then v_now else quota.minute_began_at end,
    minute_jobs = case when fresh.is_new then 0 else quota.minute_jobs end + v_count
  from (
    -- A minute in the future began before the clock was set back.
    select known.minute_began_at <= v_now - interval '1 minute' or known.minute_began_at > v_now as is_new
    from queue.user_quotas as known where known.tenant_id = p_tenant_id
  ) as fresh
  where quota.tenant_id = p_tenant_id
  returning quota.minute_jobs as jobs, quota.minute_began_at + interval '1 minute' - v_now as rest into v_minute;
  if v_minute.jobs > v_quota.per_minute then
    raise exception 'quota exceeded: at most % jobs a minute', v_quota.per_minute
      using errcode = 'MR016', detail = format('With these %s it would be %s.', v_count, v_minute.jobs),
        hint = format('Try again in %s s.', ceil(extract(epoch from v_minute.rest)));
  end if;

  if v_quota.open_jobs is null then
    return;
  end if;
  v_open := (select count(*) from queue.user_jobs as known where known.tenant_id = p_tenant_id);
  if v_open + v_count > v_quota.open_jobs then
    v_ended := array(
      select known.job_id from queue.user_jobs as known
      where known.tenant_id = p_tenant_id and ((
        select run.to_status from queue.runs as run
        where run.job_id = known.job_id order by run.lease_id desc limit 1
      ) in ('completed', 'failed', 'cancelled') or exists (
        select from queue.arrivals as arrival where arrival.id = known.job_id and arrival.cancelled_at is not null
      ))
    );
    v_open := v_open - cardinality(v_ended);
    if v_open + v_count > v_quota.open_jobs then
      raise exception 'quota exceeded: at most % open jobs', v_quota.open_jobs
        using errcode = 'MR016', detail = format('%s are open, %s were to come.', v_open, v_count),
          hint = 'Try again when some of them have ended.';
    end if;
    delete from queue.user_jobs as known where known.tenant_id = p_tenant_id and known.job_id = any (v_ended);
  end if;
  insert into queue.user_jobs (tenant_id, job_id) select p_tenant_id, made.id from unnest(p_job_ids) as made (id);
end;
$$;
comment on function queue.charge_quota is
  'Counts new jobs of end users against the quota of their tenant. Raises MR016 when they are too many.';
