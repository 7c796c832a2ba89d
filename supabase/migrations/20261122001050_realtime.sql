-- News of jobs for browsers, over Supabase Realtime: private topics `queue:tenant:<tenant>` with the events
--   progress  {id, type, status, percent, message}   at most once a second for a job
--   ended     {id, type, status}                     completed, failed or cancelled
-- Off unless queue.settings.broadcasts is set; then each message is a row in realtime.messages, of the same transaction.
-- A message is a hint to look, never the truth: whoever misses one reads the views.
--
-- Locks: none.

alter table queue.settings add column broadcasts boolean not null default false;
comment on column queue.settings.broadcasts is
  'Progress and ends of jobs are sent to the tenant''s private Realtime topic. See queue.grant_realtime().';

alter table queue.progress add column broadcast_at timestamptz;
comment on column queue.progress.broadcast_at is 'When progress of this job was last sent to Realtime.';

-- One subtransaction for all messages of a call, and only where they are switched on. What an end of the caller's own
-- statement would be (a timeout, a cancel) is no fault of Realtime and goes through.
create function queue.broadcast(p_event text, p_job_ids bigint[], p_statuses queue.job_status[], p_news jsonb default '{}')
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null or not queue.is_trusted_schema('realtime') then
    return;
  end if;
  perform realtime.send(
    jsonb_build_object('id', job.id::text, 'type', type.name, 'status', told.status) || p_news,
    p_event, 'queue:tenant:' || tenant.name, true
  )
  from unnest(p_job_ids, p_statuses) as told (id, status)
  join queue.jobs as job on job.id = told.id
  join queue.types as type on type.id = job.type_id
  join queue.tenants as tenant on tenant.id = job.tenant_id;
exception
  when others then
    raise log 'millrace: nothing was sent to Realtime: %', sqlerrm;
end;
$$;
comment on function queue.broadcast is
  'Sends an event of these jobs to the Realtime topics of their tenants, where Realtime exists; jobs without a tenant have none. Never raises.';

create function queue.broadcast_progress(p_job_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_news jsonb;
begin
  update queue.progress as news
  set broadcast_at = v_now
  where news.job_id = p_job_id and (news.broadcast_at is null or news.broadcast_at <= v_now - interval '1 second')
  returning jsonb_build_object('percent', news.percent, 'message', news.message) into v_news;
  if found then
    perform queue.broadcast('progress', array[p_job_id], array['processing'::queue.job_status], v_news);
  end if;
end;
$$;
comment on function queue.broadcast_progress is 'Sends the progress of a running job, unless some was sent within the last second.';

-- Realtime asks this policy as the user who joins a private channel, with that channel's topic.
create function queue.grant_realtime()
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('realtime.messages') is null or to_regrole('authenticated') is null then
    return false;
  end if;
  grant usage on schema queue to authenticated;
  grant execute on function queue.caller_tenant to authenticated;
  if not exists (
    select from pg_catalog.pg_policies
    where schemaname = 'realtime' and tablename = 'messages' and policyname = 'millrace_tenant_reads'
  ) then
    create policy millrace_tenant_reads on realtime.messages for select to authenticated using (
      extension = 'broadcast' and (select realtime.topic()) = 'queue:tenant:' || (select queue.caller_tenant())
    );
  end if;
  return true;
end;
$$;
comment on function queue.grant_realtime is
  'Lets signed-in users join the private Realtime topic of their own tenant; false where Realtime or the role is missing. Safe to call again.';
