-- The clock of a project without long-lived workers: jobs of pg_cron, all named millrace-… and run as whoever installed
-- them. Without pg_cron nothing is set up; long-lived workers keep the clock then. All times are UTC.

create function queue.enqueue_once(p_type text, p_every text)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_period text := to_char(
    queue.clock() at time zone 'UTC', case p_every when 'week' then 'IYYY-"W"IW' else 'YYYY-MM-DD' end);
begin
  return (
    select made.id from queue.enqueue_one(
      p_type => p_type, p_payload => jsonb_build_object(p_every, v_period), p_idempotency_key => p_type || ':' || v_period) as made
  );
end;
$$;
comment on function queue.enqueue_once is
  'Enqueues a job of this type unless this week, or this day, already has one; returns its id. p_every: week or day (of UTC).';

create function queue.purge_cron_history()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer;
begin
  if not queue.is_trusted_schema('cron') then
    return 0;
  end if;
  delete from cron.job_run_details as past
  where coalesce(past.end_time, past.start_time) < queue.clock() - interval '7 days'
    and past.jobid in (select job.jobid from cron.job as job where job.jobname like 'millrace-%');
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;
comment on function queue.purge_cron_history is
  'Deletes what pg_cron wrote down of our jobs more than seven days ago, and returns how many rows: pg_cron itself keeps them for ever.';

-- Only functions of this schema: in public others may make one of the same name that fits a call better, and pg_cron calls as the owner.
create function queue.cron_jobs()
returns table (name text, schedule text, fallback text, command text)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  values
    ('millrace-process', '10 seconds', '* * * * *', $c$select queue.trigger_worker('process', null, null)$c$),
    ('millrace-clean-up', '* * * * *', null, 'select queue.cleanup()'),
    ('millrace-maintenance', '* * * * *', null, 'select queue.maintain()'),
    ('millrace-retention', '* * * * *', null, 'select queue.drop_old_partitions()'),
    ('millrace-weekly-payouts', '0 9 * * 1', null, $c$select queue.enqueue_once('weekly_payouts', 'week')$c$),
    ('millrace-daily-analytics', '0 2 * * *', null, $c$select queue.enqueue_once('daily_analytics', 'day')$c$),
    ('millrace-cron-history', '30 3 * * *', null, 'select queue.purge_cron_history()');
$$;
comment on function queue.cron_jobs is
  'The jobs that install_cron sets up. The fallback is for a pg_cron older than 1.5, which knows no seconds. Each is a transaction of its own: a failure of one undoes no other.';

create function queue.install_cron(p_without text[] default '{}')
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_job record;
  v_schedule text;
  v_installed jsonb := jsonb '[]';
  v_left_out jsonb := jsonb '[]';
  v_obstacle text := case
    when not queue.is_trusted_schema('cron') then
      'pg_cron is not in this database: create extension pg_cron, then call queue.install_cron() again'
    when not has_schema_privilege('cron', 'usage') then
      format('%s may not use the schema cron: grant usage on schema cron to %I', current_user, current_user)
  end;
begin
  for v_job in select known.* from queue.cron_jobs() as known loop
    if v_obstacle is not null or v_job.name = any (p_without) then
      v_left_out := v_left_out || jsonb_build_object('name', v_job.name, 'reason', coalesce(v_obstacle, 'it was not wanted'));
      if v_obstacle is null then
        perform cron.unschedule(job.jobid) from cron.job as job
        where job.jobname = v_job.name and job.username = current_user;
      end if;
      continue;
    end if;
    begin
      v_schedule := v_job.schedule;
      perform cron.schedule(v_job.name, v_schedule, v_job.command);
    exception
      when invalid_parameter_value then
        if v_job.fallback is null then
          raise;
        end if;
        v_schedule := v_job.fallback;
        perform cron.schedule(v_job.name, v_schedule, v_job.command);
        v_left_out := v_left_out || jsonb_build_object('name', v_job.name, 'reason', format(
          'this pg_cron knows no seconds: it runs at "%s" instead of every %s', v_schedule, v_job.schedule));
    end;
    v_installed := v_installed || jsonb_build_object('name', v_job.name, 'schedule', v_schedule);
  end loop;
  return jsonb_build_object('installed', v_installed, 'left_out', v_left_out);
end;
$$;
comment on function queue.install_cron is
  'Sets up our jobs of pg_cron, as the caller, but those named in p_without; safe to call again. {installed: [{name, schedule}], left_out: [{name, reason}]}; without pg_cron all are left out.';

create function queue.uninstall_cron()
returns text[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_job record;
  v_gone text[] := array[]::text[];
begin
  if not queue.is_trusted_schema('cron') then
    return v_gone;
  end if;
  for v_job in
    select job.jobid, job.jobname from cron.job as job
    where job.jobname like 'millrace-%' and job.username = current_user
    order by job.jobid
  loop
    perform cron.unschedule(v_job.jobid);
    v_gone := v_gone || v_job.jobname::text;
  end loop;
  return v_gone;
end;
$$;
comment on function queue.uninstall_cron is 'Takes our jobs out of pg_cron again; returns their names.';

create function queue.edge_status()
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_has_net boolean := to_regclass('net.http_request_queue') is not null and queue.is_trusted_schema('net');
  v_has_vault boolean := to_regclass('vault.decrypted_secrets') is not null and queue.is_trusted_schema('vault');
  v_has_cron boolean := to_regclass('cron.job_run_details') is not null and queue.is_trusted_schema('cron');
  v_door record;
  v_ring jsonb;
  v_jobs jsonb;
begin
  v_door := queue.doorbell();
  select jsonb_build_object('at', ring.at, 'reason', ring.reason, 'status_code', ring.status_code,
    'timed_out', ring.timed_out, 'error', ring.error, 'finished_at', ring.finished_at)
  into v_ring
  from queue.rings as ring order by ring.id desc limit 1;
  if v_has_cron then
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', job.jobname, 'schedule', job.schedule, 'active', job.active,
      'last_run', (
        select jsonb_build_object('at', run.start_time, 'status', run.status, 'message', run.return_message)
        from cron.job_run_details as run where run.jobid = job.jobid and run.status in ('succeeded', 'failed')
        order by run.runid desc limit 1
      )
    ) order by job.jobname), '[]') into v_jobs
    from cron.job as job where job.jobname like 'millrace-%';
  end if;
  return jsonb_build_object(
    'checked_at', queue.clock(), 'pg_net', v_has_net, 'vault', v_has_vault, 'pg_cron', v_has_cron,
    'has_url', v_door.o_url is not null, 'has_token', v_door.o_token is not null, 'is_ready', v_door.o_state = 'ready',
    'is_armed', exists (select from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = 0),
    'last_ring', v_ring, 'problems', queue.doorbell_problems(), 'cron_jobs', v_jobs,
    'cron_wanted', (select jsonb_agg(known.name order by known.name) from queue.cron_jobs() as known)
  );
end;
$$;
comment on function queue.edge_status is
  'What an Edge worker needs and what of it is there, without any secret: extensions, secrets, the bell, the last ring, the jobs of pg_cron.';
