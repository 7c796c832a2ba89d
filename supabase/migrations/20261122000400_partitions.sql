-- Partitions of jobs and runs: fixed spans of ids. About once a day the id sequence jumps to the next span, so that
-- a partition holds about a day and the primary key stays the id alone. See docs/decisions/002.
--
-- Locks: attaching takes SHARE UPDATE EXCLUSIVE on the parent (nobody waits); dropping takes ACCESS EXCLUSIVE for a
-- moment, under a short lock_timeout. One maintainer at a time, by a transaction-level advisory lock.
-- The only dynamic SQL of the machine: table names and bounds of partitions can't be parameters.

create table queue.partitions (
  number bigint not null,
  first_id bigint not null,
  end_id bigint not null,
  made_at timestamptz not null,
  begun_at timestamptz,
  constraint partitions_pkey primary key (number),
  constraint partitions_span_positive check (end_id > first_id)
);
comment on table queue.partitions is 'The partitions of queue.jobs and queue.runs that exist: jobs_p<number>, runs_p<number>.';
comment on column queue.partitions.begun_at is 'When maintenance first saw ids of this span in use.';

create function queue.make_partition(p_number bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_parent text;
  v_child text;
  v_span bigint := (select settings.partition_span from queue.settings);
  v_first bigint := coalesce((select max(part.end_id) from queue.partitions as part), 1);
begin
  foreach v_parent in array array['jobs', 'runs'] loop
    v_child := v_parent || '_p' || p_number;
    execute format('create table queue.%I (like queue.%I including all)', v_child, v_parent);
    execute format('alter table queue.%I enable row level security', v_child);
    execute format('alter table queue.%I force row level security', v_child);
    execute format('create policy machine on queue.%I to current_user using (true) with check (true)', v_child);
    execute format('comment on table queue.%I is %L', v_child, 'A span of ids of queue.' || v_parent || '.');
    execute format(
      'alter table queue.%I attach partition queue.%I for values from (%s) to (%s)',
      v_parent, v_child, v_first, v_first + v_span
    );
  end loop;
  insert into queue.partitions (number, first_id, end_id, made_at)
  values (p_number, v_first, v_first + v_span, queue.clock());
end;
$$;
comment on function queue.make_partition is 'Makes and attaches the next partition of jobs and of runs.';

-- Keeps four spans ahead, and begins a new one when the interval has passed.
create function queue.extend_partitions()
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now timestamptz := queue.clock();
  v_made integer := 0;
  v_current queue.partitions;
  v_next queue.partitions;
  v_interval interval := (select settings.partition_interval from queue.settings);
begin
  update queue.partitions as part
  set begun_at = v_now
  where part.begun_at is null
    and part.first_id <= (select case when ids.is_called then ids.last_value else 0 end from queue.job_ids as ids);

  select part.* into v_current from queue.partitions as part, queue.job_ids as ids
  where ids.last_value >= part.first_id and ids.last_value < part.end_id;
  select part.* into v_next from queue.partitions as part where part.first_id = v_current.end_id;

  -- The jump is not atomic with other sessions' nextval(): it is made only while half of the span is unused, so
  -- that no session can have walked past the next span's first id between the look and the jump. A span that is
  -- more than half used ends by itself soon enough.
  if v_current.begun_at < v_now - v_interval and v_next.number is not null then
    perform setval('queue.job_ids', v_next.first_id, false)
    from queue.job_ids as ids
    where ids.last_value < v_current.first_id + (v_current.end_id - v_current.first_id) / 2;
  end if;

  while (
    select count(*) < 4
    from queue.partitions as part, queue.job_ids as ids
    where part.first_id > ids.last_value
  ) loop
    perform queue.make_partition(coalesce((select max(part.number) from queue.partitions as part), 0) + 1);
    v_made := v_made + 1;
  end loop;
  return v_made;
end;
$$;
comment on function queue.extend_partitions is
  'Keeps four partitions ahead of the ids in use and begins a new one when partition_interval has passed; returns how many were made.';

create function queue.has_open_jobs(p_first_id bigint, p_end_id bigint)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select
      exists (select from queue.ready as token where token.id >= p_first_id and token.id < p_end_id)
      or exists (select from queue.scheduled as token where token.id >= p_first_id and token.id < p_end_id)
      or exists (select from queue.waiting as token where token.id >= p_first_id and token.id < p_end_id)
      or exists (
        select from queue.leases as lease, unnest(lease.job_ids) as held (job_id)
        where held.job_id >= p_first_id and held.job_id < p_end_id
      )
  );
end;
$$;
comment on function queue.has_open_jobs is 'True while a job of this span of ids has not ended.';

-- A partition goes when its span is behind the sequence, none of its jobs is open, no job that waits needs a
-- result of it, and the last run in it is older than the retention.
-- In plpgsql, whose plans notice that a partition is gone.
create function queue.is_droppable(p_first_id bigint, p_end_id bigint, p_cutoff timestamptz)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return not queue.has_open_jobs(p_first_id, p_end_id)
    and not exists (
      select from queue.runs as run
      where run.job_id >= p_first_id and run.job_id < p_end_id and run.finished_at > p_cutoff
    )
    and not exists (
      select from queue.waiting as token join queue.jobs as job on job.id = token.id,
        unnest(job.depends_on) as parent (id)
      where parent.id >= p_first_id and parent.id < p_end_id
    );
end;
$$;
comment on function queue.is_droppable is 'True when every job of this span of ids ended before a time and nobody needs its result.';

create function queue.drop_old_partitions()
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_part queue.partitions;
  v_dropped integer := 0;
  v_cutoff timestamptz := queue.clock() - (select settings.completed_retention from queue.settings);
begin
  for v_part in
    select part.* from queue.partitions as part, queue.job_ids as ids
    where part.end_id <= ids.last_value and part.begun_at < v_cutoff
    order by part.number
  loop
    continue when not queue.is_droppable(v_part.first_id, v_part.end_id, v_cutoff);
    -- Looked at again when nobody else is in these tables: a retry in flight could have revived a job of it.
    lock table only queue.jobs, only queue.runs in access exclusive mode;
    continue when not queue.is_droppable(v_part.first_id, v_part.end_id, v_cutoff);

    delete from queue.idempotency_keys as key where key.job_id >= v_part.first_id and key.job_id < v_part.end_id;
    delete from queue.user_jobs as known where known.job_id >= v_part.first_id and known.job_id < v_part.end_id;
    delete from queue.progress as news where news.job_id >= v_part.first_id and news.job_id < v_part.end_id;
    delete from queue.dependencies as edge where edge.parent_id >= v_part.first_id and edge.parent_id < v_part.end_id;
    execute format('drop table queue.%I', 'jobs_p' || v_part.number);
    execute format('drop table queue.%I', 'runs_p' || v_part.number);
    delete from queue.partitions as part where part.number = v_part.number;
    perform queue.note('partition_dropped', null, jsonb_build_object(
      'number', v_part.number, 'first_id', v_part.first_id, 'end_id', v_part.end_id));
    v_dropped := v_dropped + 1;
  end loop;
  return v_dropped;
end;
$$;
comment on function queue.drop_old_partitions is
  'Drops partitions whose jobs all ended longer ago than completed_retention; returns how many. Never drops an open job.';
