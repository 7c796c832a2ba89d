-- How partitions go: when all of their jobs ended longer ago than completed_retention.
--
-- Three steps, each of which may end the call; the next call goes on. A look whether it may go, and what is kept beside its
-- jobs deleted in slices, both while everybody works. Then the drop, under locks that stop everybody: it asks for them a few
-- hundredths of a second, because all who come meanwhile wait behind it, and not again for a thousand times as long. A
-- reader that stays for an hour delays the drop, and nobody else. See docs/decisions/025.
--
-- Locks: keys, progress and edges with skip locked; then ACCESS EXCLUSIVE on the parents and on the partition, at the end of a
-- call that does nothing else. One call at a time, by a guard.

create function queue.has_open_jobs(p_first_id bigint, p_end_id bigint)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return (
    select
      exists (select from queue.ready as token where token.id >= p_first_id and token.id < p_end_id)
      or exists (select from queue.scheduled as token where token.id >= p_first_id and token.id < p_end_id)
      or exists (select from queue.waiting as token where token.id >= p_first_id and token.id < p_end_id)
      or exists (select from queue.arrivals as arrival where arrival.id >= p_first_id and arrival.id < p_end_id)
      or exists (
        select from queue.leases as lease
        where (case when cardinality(lease.job_ids) = 1 then lease.job_ids[1] end) >= p_first_id
          and (case when cardinality(lease.job_ids) = 1 then lease.job_ids[1] end) < p_end_id
      )
      or exists (
        select from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
        where (case when cardinality(lease.job_ids) = 1 then lease.job_ids[1] end) is null
          and held.job_id >= p_first_id and held.job_id < p_end_id
      )
  );
end;
$$;
comment on function queue.has_open_jobs is 'True while a job of this span of ids has not ended.';

-- The oldest parent of a waiting job leads to it: who waits for younger jobs only is not looked at. Of very many that wait for
-- older ones it is not found out what each needs: then the partition stays.
create function queue.is_needed(p_first_id bigint, p_end_id bigint)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
begin
  -- In the order of that index, and then job by job: statistics may say that nobody waits.
  return exists (
    select from queue.waiting as token where token.first_parent < p_end_id order by token.first_parent offset 100000
  ) or exists (
    select
    from (
      select token.id from queue.waiting as token where token.first_parent < p_end_id order by token.first_parent offset 0
    ) as token
    cross join lateral (select job.depends_on from queue.jobs as job where job.id = token.id offset 0) as job
    cross join lateral unnest(job.depends_on) as parent (id)
    where parent.id >= p_first_id and parent.id < p_end_id
  ) or exists (
    select from queue.arrivals as arrival, unnest(arrival.depends_on) as parent (id)
    where parent.id >= p_first_id and parent.id < p_end_id
  );
end;
$$;
comment on function queue.is_needed is 'True while a job waits that may need the result of one of this span of ids.';

-- A partition goes when its span is behind the sequence, none of its jobs is open, no job that waits needs a
-- result of it, and the last run in it is older than the retention.
-- Of the runs only their time is asked, in this partition alone: so the answer comes from the index of the times.
create function queue.is_droppable(p_number bigint, p_cutoff timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_part queue.partitions := (select part from queue.partitions as part where part.number = p_number);
  v_has_young boolean;
begin
  if queue.has_open_jobs(v_part.first_id, v_part.end_id) or queue.is_needed(v_part.first_id, v_part.end_id) then
    return false;
  end if;
  execute format('select exists (select from queue.%I as run where run.finished_at > $1)', 'runs_p' || p_number)
  into v_has_young using p_cutoff;
  return not v_has_young;
end;
$$;
comment on function queue.is_droppable is 'True when every job of this partition ended before a time and nobody needs its result.';

create function queue.clear_partition(p_number bigint, out o_is_clear boolean, out o_count integer)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_part queue.partitions := (select part from queue.partitions as part where part.number = p_number);
  v_until timestamptz := queue.clock() + interval '500 milliseconds';
  v_from bigint := coalesce(v_part.cleared_to, v_part.first_id);
  v_to bigint;
  v_deleted integer;
begin
  o_is_clear := false;
  o_count := 0;
  loop
    v_from := least(
      (
        select key.job_id from queue.idempotency_keys as key
        where key.job_id >= v_from and key.job_id < v_part.end_id order by key.job_id limit 1
      ), (
        select news.job_id from queue.progress as news
        where news.job_id >= v_from and news.job_id < v_part.end_id order by news.job_id limit 1
      ), (
        select edge.parent_id from queue.dependencies as edge
        where edge.parent_id >= v_from and edge.parent_id < v_part.end_id order by edge.parent_id limit 1
      )
    );
    exit when v_from is null;
    if queue.clock() > v_until then
      update queue.partitions as part set cleared_to = v_from where part.number = p_number;
      return;
    end if;
    v_to := least(v_from + 10000, v_part.end_id);
    delete from queue.idempotency_keys
    where ctid = any (array(
      select key.ctid from queue.idempotency_keys as key
      where key.job_id >= v_from and key.job_id < v_to for update skip locked
    ));
    get diagnostics v_deleted = row_count;
    o_count := o_count + v_deleted;
    delete from queue.progress
    where ctid = any (array(
      select news.ctid from queue.progress as news
      where news.job_id >= v_from and news.job_id < v_to for update skip locked
    ));
    get diagnostics v_deleted = row_count;
    o_count := o_count + v_deleted;
    delete from queue.dependencies
    where ctid = any (array(
      select edge.ctid from queue.dependencies as edge
      where edge.parent_id >= v_from and edge.parent_id < v_to for update skip locked
    ));
    get diagnostics v_deleted = row_count;
    o_count := o_count + v_deleted;
    v_from := v_to;
  end loop;
  delete from queue.user_jobs
  where ctid = any (array(
    select known.ctid from queue.user_jobs as known
    where known.job_id >= v_part.first_id and known.job_id < v_part.end_id for update skip locked
  ));
  get diagnostics v_deleted = row_count;
  o_count := o_count + v_deleted;
  update queue.partitions as part set cleared_to = null where part.number = p_number;
  -- What somebody held is left to the next call.
  o_is_clear := not exists (
    select from queue.idempotency_keys as key where key.job_id >= v_part.first_id and key.job_id < v_part.end_id
  ) and not exists (
    select from queue.progress as news where news.job_id >= v_part.first_id and news.job_id < v_part.end_id
  ) and not exists (
    select from queue.dependencies as edge where edge.parent_id >= v_part.first_id and edge.parent_id < v_part.end_id
  ) and not exists (
    select from queue.user_jobs as known where known.job_id >= v_part.first_id and known.job_id < v_part.end_id
  );
end;
$$;
comment on function queue.clear_partition is
  'Deletes keys, progress, edges and places in quotas of the jobs of a partition, for half a second; o_is_clear is false while some are left, o_count how many went.';

-- A partition that somebody has detached by hand needs no lock on the parents.
create function queue.drop_partition(p_number bigint, p_cutoff timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_part queue.partitions := (select part from queue.partitions as part where part.number = p_number);
begin
  -- An older snapshot would not show who came to need it.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the call is in a transaction that is not read committed' using errcode = '25001',
      hint = 'begin isolation level read committed; select queue.drop_old_partitions(); commit;';
  end if;
  if exists (
    select from pg_catalog.pg_inherits as link
    where link.inhparent in ('queue.jobs'::regclass, 'queue.runs'::regclass)
      and link.inhrelid in (to_regclass('queue.jobs_p' || p_number), to_regclass('queue.runs_p' || p_number))
  ) then
    lock table only queue.jobs, only queue.runs in access exclusive mode;
  end if;
  -- Looked at again when nobody else is in these tables: a retry in flight could have revived a job of it.
  if not queue.is_droppable(p_number, p_cutoff) then
    raise exception 'a job of it is in use again' using errcode = '55P03';
  end if;
  execute format('drop table if exists queue.%I', 'jobs_p' || p_number);
  execute format('drop table if exists queue.%I', 'runs_p' || p_number);
  delete from queue.partitions as part where part.number = p_number;
  perform queue.part_succeeded('partition ' || p_number);
  perform queue.note('partition_dropped', null, jsonb_build_object(
    'number', p_number, 'first_id', v_part.first_id, 'end_id', v_part.end_id));
end;
$$;
comment on function queue.drop_partition is
  'Drops a partition that nobody needs; raises 55P03 when it can''t have it within the caller''s lock_timeout, or a job of it is in use again.';

create function queue.drop_old_partitions()
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '30ms'
as $$
declare
  v_now timestamptz := queue.clock();
  v_cutoff timestamptz := v_now - (select settings.completed_retention from queue.settings);
  v_part queue.partitions;
  v_name text;
  v_cleared record;
  v_patience_ms integer;
  v_wait interval;
begin
  if not queue.try_guard('retention') then
    return 0;
  end if;
  for v_part in
    select part.* from queue.partitions as part, queue.job_ids as ids
    where part.end_id <= ids.last_value and part.begun_at < v_cutoff
      -- A time far ahead was written before the clock was set back.
      and (part.next_look_at between v_now and v_now + interval '1 hour') is not true
    order by part.number
  loop
    v_name := 'partition ' || v_part.number;
    v_wait := interval '1 minute';
    begin
      if queue.is_droppable(v_part.number, v_cutoff) then
        -- Much that was deleted is committed first: the locks are not to be held while it is written to disk.
        v_cleared := queue.clear_partition(v_part.number);
        if not v_cleared.o_is_clear or v_cleared.o_count > 1000 then
          return 0;
        end if;
        -- Who is never alone waits a little longer after each half an hour, and less often: the part of the time that others
        -- stand still remains the same.
        v_patience_ms := least(30 + coalesce((
          select known.tries / 30 * 30 from queue.failures as known where known.part = v_name and known.code = '55P03'
        ), 0), 250);
        v_wait := v_patience_ms * interval '2 seconds';
        perform set_config('lock_timeout', v_patience_ms || 'ms', true);
        perform queue.drop_partition(v_part.number, v_cutoff);
        -- One in a call: its locks end with the transaction.
        return 1;
      end if;
      perform queue.part_succeeded(v_name);
    exception
      when others then
        v_wait := case when sqlstate = '55P03' then v_wait else interval '1 hour' end;
        perform queue.part_failed(v_name, sqlstate, sqlerrm, v_wait);
    end;
    update queue.partitions as part set next_look_at = v_now + v_wait where part.number = v_part.number;
  end loop;
  return 0;
end;
$$;
comment on function queue.drop_old_partitions is
  'Drops a partition whose jobs all ended longer ago than completed_retention, or does a part of it; returns how many were dropped: 1 or 0. To be called by itself, for its locks end with the transaction. Never drops an open job.';
