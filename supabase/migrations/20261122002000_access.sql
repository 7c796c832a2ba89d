-- Who may do what. Row level security is on and forced for every table; EXECUTE is taken from PUBLIC for every
-- function. A role that does not exist is skipped: create it and call queue.grant_access() again.
--
--   the owner         everything: the machine's functions are security definer and run as it
--   millrace_worker   enqueues, claims, settles, maintains; reads no table
--   service_role      the same, operates, and reads the views (Supabase's backend key)
--   authenticated     enqueues types it is allowed to for its own tenant, reads its own tenant's jobs
--   anon              nothing

create function queue.caller_tenant_id()
returns integer
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select tenant.id from queue.tenants as tenant where tenant.name = queue.caller_tenant()
  );
end;
$$;
comment on function queue.caller_tenant_id is 'The id of the tenant in the caller''s JWT, null when there is none.';

create function queue.grant_worker(p_role text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('grant usage on schema queue to %I', p_role);
  execute format('grant execute on function
    queue.schema_version, queue.serves_version, queue.clock, queue.enqueue_one, queue.enqueue_many, queue.enqueue_alike, queue.register_worker, queue.worker_names,
    queue.heartbeat_worker,
    queue.unregister_worker, queue.advance, queue.sweep_children, queue.extend_leases, queue.arm_bells, queue.pass_held_bells, queue.disarm_bells, queue.settle_one,
    queue.settle_by_job, queue.claim_rows, queue.cleanup, queue.report, queue.maintain, queue.drop_old_partitions, queue.job_outcome,
    queue.parent_results, queue.trigger_worker, queue.arm_edge_bell, queue.collect_rings, queue.forget_leases,
    queue.other_leases, queue.open_jobs,
    queue.hand_over, queue.answer_call, queue.run_plan, queue.work_due, queue.overview, queue.health,
    public.enqueue_job, public.enqueue_jobs, public.get_next_job, public.claim_next_job, public.complete_job,
    public.fail_job, public.cleanup_stuck_jobs, public.report_progress, public.trigger_queue_worker
    to %I', p_role);
end;
$$;
comment on function queue.grant_worker is 'Lets a role run workers: EXECUTE on what a worker calls, and nothing else.';

create function queue.grant_operator(p_role text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform queue.grant_worker(p_role);
  execute format('grant execute on function
    queue.cancel, queue.retry, queue.redrive, queue.purge, queue.set_paused, queue.explain, queue.stats, queue.health,
    queue.status_of, queue.priority_name, queue.is_end_user, queue.caller_role, queue.edge_status, queue.set_route,
    queue.remove_route, public.set_job_route, public.remove_job_route, public.cancel_job, public.retry_job,
    public.redrive_jobs, public.purge_jobs, public.pause_queue,
    public.resume_queue, public.explain_job, public.queue_stats, public.queue_health
    to %I', p_role);
  execute format('grant select on all tables in schema queue to %I', p_role);
  execute format('grant select on public.job_queue, public.queue_jobs, public.job_dead_letter, public.job_status_history to %I', p_role);
  execute format('grant insert, update on queue.types, queue.queues, queue.tenants, queue.settings to %I', p_role);
end;
$$;
comment on function queue.grant_operator is
  'Lets a role operate the queue: all of a worker, the operators'' functions, the views, and the settings. For RLS it needs BYPASSRLS, as service_role has.';

-- A function that a migration drops and makes anew with other parameters has lost its grants. Roles that were let in by hand are known
-- by rights that make them so already, and that no migration takes away together: workers may ask for the schema's version and claim,
-- operators may write all that is set. Not by a single right, which somebody may have for a reason of his own, and not by anything
-- in schema public, where projects give rights away by default.
create function queue.grant_access()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role name;
begin
  for v_role in
    select role.rolname from pg_catalog.pg_proc as proc
    cross join lateral aclexplode(proc.proacl) as acl
    join pg_catalog.pg_roles as role on role.oid = acl.grantee
    where proc.oid = 'queue.schema_version()'::regprocedure and acl.grantee <> proc.proowner
      and exists (
        select from pg_catalog.pg_proc as other
        where other.pronamespace = 'queue'::regnamespace and other.proname in ('advance', 'claim_rows', 'register_worker')
          and has_function_privilege(role.oid, other.oid, 'execute')
      )
  loop
    perform queue.grant_worker(v_role);
  end loop;
  for v_role in
    select role.rolname from pg_catalog.pg_class as class
    cross join lateral aclexplode(class.relacl) as acl
    join pg_catalog.pg_roles as role on role.oid = acl.grantee
    where class.oid = 'queue.settings'::regclass and acl.privilege_type = 'UPDATE' and acl.grantee <> class.relowner
      and has_table_privilege(role.oid, 'queue.types', 'insert') and has_table_privilege(role.oid, 'queue.queues', 'insert')
      and has_table_privilege(role.oid, 'queue.tenants', 'insert')
  loop
    perform queue.grant_operator(v_role);
  end loop;
  if to_regrole('millrace_worker') is not null then
    perform queue.grant_worker('millrace_worker');
  end if;
  if to_regrole('service_role') is not null then
    perform queue.grant_operator('service_role');
  end if;
  if to_regrole('anon') is not null then
    revoke execute on function
      public.enqueue_job, public.enqueue_jobs, public.get_next_job, public.claim_next_job, public.complete_job,
      public.fail_job, public.cleanup_stuck_jobs, public.report_progress, public.cancel_job, public.retry_job,
      public.redrive_jobs, public.purge_jobs, public.pause_queue, public.resume_queue, public.explain_job,
      public.queue_stats, public.queue_health, public.trigger_queue_worker, public.set_job_route, public.remove_job_route
    from anon;
    revoke all on public.job_queue, public.queue_jobs, public.job_dead_letter, public.job_status_history from anon;
  end if;
  if to_regrole('authenticated') is not null then
    revoke execute on function
      public.get_next_job, public.claim_next_job, public.complete_job,
      public.fail_job, public.cleanup_stuck_jobs, public.report_progress, public.cancel_job, public.retry_job,
      public.redrive_jobs, public.purge_jobs, public.pause_queue, public.resume_queue, public.explain_job,
      public.queue_stats, public.queue_health, public.trigger_queue_worker, public.set_job_route, public.remove_job_route
    from authenticated;
    revoke all on public.job_queue, public.queue_jobs, public.job_dead_letter, public.job_status_history from authenticated;
    grant usage on schema queue to authenticated;
    grant execute on function
      public.enqueue_job, public.enqueue_jobs, queue.enqueue_one, queue.enqueue_many, queue.enqueue_alike,
      queue.caller_tenant_id, queue.priority_name, queue.is_end_user, queue.caller_role
    to authenticated;
    grant select on public.job_queue, public.queue_jobs, public.job_dead_letter, public.job_status_history to authenticated;
    grant select on
      queue.jobs, queue.runs, queue.ready, queue.scheduled, queue.waiting, queue.leases, queue.types, queue.queues,
      queue.tenants, queue.workers, queue.progress, queue.dead_letters
    to authenticated;
    perform queue.make_tenant_policies();
  end if;
end;
$$;
comment on function queue.grant_access is
  'Gives the roles of Supabase, millrace_worker and those let in by grant_worker and grant_operator what they may do; safe to call again.';

-- A forced table needs a policy for its owner, and a policy names a role: it stays with the old one when the owner changes, and is missing
-- where that role is not known. Takes ACCESS EXCLUSIVE on tables whose policy is wrong, and on no other.
create function queue.adopt()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner text := (select space.nspowner::regrole::text from pg_catalog.pg_namespace as space where space.nspname = 'queue');
  v_strangers text;
  v_table name;
  v_count integer := 0;
begin
  select string_agg(distinct quote_ident(pg_get_userbyid(thing.owner)), ', ') into v_strangers
  from (
    select class.relowner as owner from pg_catalog.pg_class as class
    where class.relnamespace = 'queue'::regnamespace and class.relkind in ('r', 'p', 'S')
    union all
    select proc.proowner from pg_catalog.pg_proc as proc where proc.pronamespace = 'queue'::regnamespace
    union all
    select proc.proowner from pg_catalog.pg_proc as proc
    where proc.oid = any (array['public.enqueue_job'::regproc, 'public.queue_health'::regproc]::oid[])
  ) as thing
  where thing.owner <> (select space.nspowner from pg_catalog.pg_namespace as space where space.nspname = 'queue');
  if v_strangers is not null then
    raise exception 'schema queue belongs to %, and some of what is in it to %', v_owner, v_strangers
      using errcode = 'object_not_in_prerequisite_state',
        hint = format('Make one role the owner of all: reassign owned by %s to %s.', v_strangers, v_owner);
  end if;
  for v_table in
    select class.relname from pg_catalog.pg_class as class
    where class.relnamespace = 'queue'::regnamespace and class.relkind in ('r', 'p')
      and not (class.relrowsecurity and class.relforcerowsecurity and exists (
        select from pg_catalog.pg_policy as policy
        where policy.polrelid = class.oid and policy.polname = 'machine' and policy.polroles = array[class.relowner]
      ))
    order by class.oid
  loop
    execute format('alter table queue.%I enable row level security', v_table);
    execute format('alter table queue.%I force row level security', v_table);
    execute format('drop policy if exists machine on queue.%I', v_table);
    execute format('create policy machine on queue.%I to %s using (true) with check (true)', v_table, v_owner);
    v_count := v_count + 1;
  end loop;
  -- A dump without privileges leaves EXECUTE to everybody.
  revoke all on schema queue from public;
  revoke all on all tables in schema queue from public;
  revoke all on all sequences in schema queue from public;
  revoke execute on all functions in schema queue from public;
  revoke execute on function
    public.enqueue_job, public.enqueue_jobs, public.get_next_job, public.claim_next_job, public.complete_job,
    public.fail_job, public.cleanup_stuck_jobs, public.report_progress, public.cancel_job, public.retry_job,
    public.redrive_jobs, public.purge_jobs, public.pause_queue, public.resume_queue, public.explain_job,
    public.queue_stats, public.queue_health, public.trigger_queue_worker, public.set_job_route, public.remove_job_route
  from public;
  perform queue.grant_access();
  return v_count;
end;
$$;
comment on function queue.adopt is
  'For the owner after a restore or a change of owner: makes row level security and privileges what they were, whoever the owner is; safe to call again. Returns how many tables it mended.';

-- A tenant sees the facts of its own jobs, and of every other table only what belongs to a job it sees.
create function queue.make_tenant_policies()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table text;
begin
  if exists (select from pg_catalog.pg_policies where schemaname = 'queue' and policyname = 'tenant_reads') then
    return;
  end if;
  foreach v_table in array array['jobs', 'dead_letters'] loop
    execute format('create policy tenant_reads on queue.%I for select to authenticated
      using (tenant_id = (select queue.caller_tenant_id()))', v_table);
  end loop;
  foreach v_table in array array['ready', 'scheduled', 'waiting'] loop
    execute format('create policy tenant_reads on queue.%I for select to authenticated
      using (exists (select from queue.jobs as job where job.id = %I.id))', v_table, v_table);
  end loop;
  foreach v_table in array array['runs', 'progress'] loop
    execute format('create policy tenant_reads on queue.%I for select to authenticated
      using (exists (select from queue.jobs as job where job.id = %I.job_id))', v_table, v_table);
  end loop;
  foreach v_table in array array['types', 'queues'] loop
    execute format('create policy tenant_reads on queue.%I for select to authenticated using (true)', v_table);
  end loop;
  create policy tenant_reads on queue.tenants for select to authenticated
    using (id = (select queue.caller_tenant_id()));
  -- Leases and workers are nobody's but the operator's: the status of a job needs neither.
  create policy tenant_reads on queue.leases for select to authenticated using (false);
  create policy tenant_reads on queue.workers for select to authenticated using (false);
end;
$$;
comment on function queue.make_tenant_policies is 'The row level security policies of signed-in end users.';

select queue.extend_partitions();
select queue.adopt();
