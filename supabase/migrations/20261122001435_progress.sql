-- The progress of a running job, as its handler reports it. Changes no status.
--
-- Locks: the lease, FOR KEY SHARE, then the job's row of progress; waits 200 ms at most.

create function queue.report(
  p_job_id bigint, p_percent numeric, p_message text, p_data jsonb, p_lease_id bigint
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
set enable_seqscan = off
set jit = off
as $$
declare
  v_lease_id bigint := coalesce(p_lease_id, queue.live_lease(p_job_id));
begin
  -- Locked, so that a lost lease can't write after its rescue.
  perform from queue.leases as lease
  where lease.id = v_lease_id and p_job_id = any (lease.job_ids) for key share;
  if not found or exists (
    select from queue.runs as run where run.job_id = p_job_id and run.lease_id = v_lease_id
  ) then
    return false;
  end if;
  insert into queue.progress as news (job_id, updated_at, percent, message, data)
  values (
    p_job_id, queue.clock(), case when p_percent <> 'NaN' then least(greatest(p_percent, 0), 100) end,
    left(p_message, 1000), p_data
  )
  on conflict (job_id) do update set
    updated_at = excluded.updated_at, percent = coalesce(excluded.percent, news.percent),
    message = coalesce(excluded.message, news.message), data = coalesce(excluded.data, news.data);
  if (select settings.broadcasts from queue.settings) then
    perform queue.broadcast_progress(p_job_id);
  end if;
  return true;
exception
  when lock_not_available then
    -- Somebody else holds the lease, or writes this job's progress in a transaction of his own. Progress is news, not truth.
    return true;
end;
$$;
comment on function queue.report is
  'Stores the progress of a running job; false when the lease was lost. Leaves it out where it would have to wait for somebody.';
