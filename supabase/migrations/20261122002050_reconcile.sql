-- After a failover, a restore or a change of owner: what does not fit together, and what can be mended without a risk.
--
-- Changes no status of a job. Locks: none while it only looks; a repair deletes tokens of which there is no job, in id order, and takes what
-- adopt, grant_access and extend_partitions take.

create function queue.sequences_behind()
returns table (name text, highest bigint, given bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  -- Not from pg_sequences: a sequence that was moved on and gave out nothing since has no last value there, and a repair would move it back.
  select part.name, part.highest, part.given
  from (values
    ('queue.job_ids', (select max(job.id) from queue.jobs as job),
      (select ids.last_value - (not ids.is_called)::integer from queue.job_ids as ids)),
    -- Of the runs the newest: there is no index by lease.
    ('queue.lease_ids', greatest(
      (select max(lease.id) from queue.leases as lease),
      (select max(newest.lease_id) from (
        select run.lease_id from queue.runs as run order by run.job_id desc limit 10000
      ) as newest)
    ), (select ids.last_value - (not ids.is_called)::integer from queue.lease_ids as ids)),
    ('queue.types_id_seq', (select max(type.id) from queue.types as type),
      (select ids.last_value - (not ids.is_called)::integer from queue.types_id_seq as ids)),
    ('queue.queues_id_seq', (select max(line.id) from queue.queues as line),
      (select ids.last_value - (not ids.is_called)::integer from queue.queues_id_seq as ids)),
    ('queue.tenants_id_seq', (select max(tenant.id) from queue.tenants as tenant),
      (select ids.last_value - (not ids.is_called)::integer from queue.tenants_id_seq as ids)),
    ('queue.workers_id_seq', (select max(worker.id) from queue.workers as worker),
      (select ids.last_value - (not ids.is_called)::integer from queue.workers_id_seq as ids)),
    ('queue.audit_id_seq', (select max(act.id) from queue.audit as act),
      (select ids.last_value - (not ids.is_called)::integer from queue.audit_id_seq as ids))
  ) as part (name, highest, given)
  where part.highest > part.given;
$$;
comment on function queue.sequences_behind is 'Sequences that lie behind the highest number in use, and would give it out again.';

-- Of the newest 100,000 jobs: in a consistent database there is none, because each step of a job is one transaction.
create function queue.jobs_nowhere()
returns bigint[]
language sql
stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  with newest as materialized (
    select job.id from queue.jobs as job order by job.id desc limit 100000
  ),
  held as materialized (
    select part.job_id from queue.leases as lease, unnest(lease.job_ids) as part (job_id)
  ),
  last as materialized (
    select distinct on (run.job_id) run.job_id, run.to_status
    from queue.runs as run
    where run.job_id >= (select min(newest.id) from newest)
    order by run.job_id, run.lease_id desc
  )
  select coalesce(array_agg(newest.id order by newest.id), '{}')
  from newest
  left join last on last.job_id = newest.id
  where last.to_status is distinct from 'completed' and last.to_status is distinct from 'failed'
    and last.to_status is distinct from 'cancelled'
    and not exists (select from held where held.job_id = newest.id)
    and not exists (select from queue.ready as token where token.id = newest.id)
    and not exists (select from queue.scheduled as token where token.id = newest.id)
    and not exists (select from queue.waiting as token where token.id = newest.id);
$$;
comment on function queue.jobs_nowhere is 'Jobs, of the newest 100,000, that are neither open nor ended: no worker will ever get them.';

create function queue.reconcile(p_dry_run boolean default true)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found jsonb := '[]'::jsonb;
  v_count bigint;
  v_text text;
  v_ids bigint[];
begin
  -- First of all, because what row level security hides can't be looked at.
  if queue.server_problems(queue.clock()) @> '[{"code": "other_owner"}]' then
    if p_dry_run then
      return jsonb_build_array(queue.reconciled('other_owner', 1, true, false,
        'The queue has another owner than the one who installed it, and row level security hides its rows from it'));
    end if;
    v_count := queue.adopt()::bigint;
    v_found := v_found || queue.reconciled('other_owner', v_count, true, true, format('Tables whose policies named another owner: %s', v_count));
  end if;

  select count(*) into v_count
  from pg_catalog.pg_proc as proc
  where proc.pronamespace = 'queue'::regnamespace and (
    exists (
      select from pg_catalog.aclexplode(coalesce(proc.proacl, pg_catalog.acldefault('f', proc.proowner))) as held where held.grantee = 0
    )
    or (proc.proname in ('advance', 'enqueue_one', 'register_worker', 'maintain') and pg_catalog.to_regrole('millrace_worker') is not null
      and not pg_catalog.has_function_privilege('millrace_worker', proc.oid, 'execute')));
  if v_count > 0 then
    if not p_dry_run then
      perform queue.adopt();
    end if;
    v_found := v_found || queue.reconciled('wrong_grants', v_count, true, not p_dry_run,
      format('Functions that everybody may call, or that workers may not: %s', v_count));
  end if;

  select count(*), string_agg(behind.name, ', ' order by behind.name) into v_count, v_text from queue.sequences_behind() as behind;
  if v_count > 0 then
    if not p_dry_run then
      -- Somebody may draw meanwhile; beyond what is lost nothing must go back.
      perform setval(behind.name::regclass, behind.highest + 1000) from queue.sequences_behind() as behind;
    end if;
    v_found := v_found || queue.reconciled('sequences_behind', v_count, true, not p_dry_run,
      format('Sequences that lie behind the highest number in use: %s', v_text));
  end if;

  -- Maintenance keeps four; with two there is time.
  select 4 - count(*) into v_count
  from queue.partitions as part, queue.job_ids as ids where part.first_id > ids.last_value;
  if v_count > 2 then
    if not p_dry_run then
      perform queue.extend_partitions();
    end if;
    v_found := v_found || queue.reconciled('partitions_missing', v_count, true, not p_dry_run,
      format('Partitions that are missing for ids to come: %s', v_count));
  end if;

  select array_agg(token.id order by token.id) into v_ids
  from (
    select ready.id from queue.ready as ready union all
    select later.id from queue.scheduled as later union all
    select held.id from queue.waiting as held
  ) as token
  where not exists (select from queue.jobs as job where job.id = token.id);
  if v_ids is not null then
    if not p_dry_run then
      delete from queue.ready as token where token.id = any (v_ids) and not exists (select from queue.jobs as job where job.id = token.id);
      delete from queue.scheduled as token where token.id = any (v_ids) and not exists (select from queue.jobs as job where job.id = token.id);
      delete from queue.waiting as token where token.id = any (v_ids) and not exists (select from queue.jobs as job where job.id = token.id);
    end if;
    v_found := v_found || queue.reconciled('tokens_without_jobs', cardinality(v_ids), true, not p_dry_run,
      format('Entries that wait and of which there is no job: %s, the first is %s', cardinality(v_ids), v_ids[1]));
  end if;

  v_ids := queue.jobs_nowhere();
  if v_ids <> '{}' then
    v_found := v_found || queue.reconciled('jobs_nowhere', cardinality(v_ids), false, false,
      format('Jobs that are neither open nor ended: %s, the first is %s', cardinality(v_ids), v_ids[1]));
  end if;

  select count(*) into v_count
  from queue.leases as lease
  where not exists (select from queue.workers as worker where worker.id = lease.worker_id);
  if v_count > 0 then
    v_found := v_found || queue.reconciled('leases_of_strangers', v_count, false, false,
      format('Leases of workers of which nothing is known: %s; their jobs go on when the leases run out', v_count));
  end if;
  return v_found;
end;
$$;
comment on function queue.reconcile is
  'For the owner after a failover, a restore or a change of owner: what does not fit together, as [{code, found, is_repairable, is_repaired, message}]. With p_dry_run => false it repairs what can be repaired without a risk.';

create function queue.reconciled(p_code text, p_found bigint, p_is_repairable boolean, p_is_repaired boolean, p_message text)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'code', p_code, 'found', p_found, 'is_repairable', p_is_repairable, 'is_repaired', p_is_repaired, 'message', p_message);
$$;
comment on function queue.reconciled is 'One finding of queue.reconcile.';

revoke execute on function queue.sequences_behind, queue.jobs_nowhere, queue.reconcile, queue.reconciled from public;
