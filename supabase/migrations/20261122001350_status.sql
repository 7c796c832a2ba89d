-- Where a job stands: the table of its token, else its newest run, else it is processing.

create function queue.status_of(p_job_id bigint)
returns queue.job_status
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return (
    select case
      when exists (select from queue.ready as token where token.id = p_job_id) then 'pending'
      when exists (select from queue.scheduled as token where token.id = p_job_id) then 'scheduled'
      when exists (select from queue.waiting as token where token.id = p_job_id) then 'blocked'
      else coalesce((
        select case when run.to_status in ('completed', 'failed', 'cancelled') then run.to_status::text else 'processing' end
        from queue.runs as run where run.job_id = p_job_id order by run.lease_id desc limit 1
      ), case
        when exists (select from queue.jobs as job where job.id = p_job_id) then 'processing'
        else (
          select case
            when arrival.cancelled_at is not null then 'cancelled'
            when arrival.depends_on is not null then 'blocked'
            when arrival.scheduled_at > queue.clock() then 'scheduled'
            else 'pending'
          end
          from queue.arrivals as arrival where arrival.id = p_job_id
        )
      end)
    end::queue.job_status
  );
end;
$$;
comment on function queue.status_of is 'The status of a job, null for an unknown one.';
