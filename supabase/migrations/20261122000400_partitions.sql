-- Partitions of jobs and runs: fixed spans of ids. About once a day the id sequence jumps to the next span, so that
-- a partition holds about a day and the primary key stays the id alone. See docs/decisions/002.
--
-- Locks: attaching takes SHARE UPDATE EXCLUSIVE on the parent (nobody waits). One maintainer at a time, by a
-- guard. How partitions go is told in the next migration.
-- Dynamic SQL, here and there alone: table names and bounds of partitions can't be parameters.

create table queue.partitions (
  number bigint not null,
  first_id bigint not null,
  end_id bigint not null,
  made_at timestamptz not null,
  begun_at timestamptz,
  next_look_at timestamptz,
  cleared_to bigint,
  constraint partitions_pkey primary key (number),
  constraint partitions_span_positive check (end_id > first_id)
);
comment on table queue.partitions is 'The partitions of queue.jobs and queue.runs that exist: jobs_p<number>, runs_p<number>.';
comment on column queue.partitions.begun_at is 'When maintenance first saw ids of this span in use.';
comment on column queue.partitions.next_look_at is 'Retention could not drop it and does not look at it again before.';
comment on column queue.partitions.cleared_to is 'Keys, progress and edges of jobs with smaller ids of this span are gone.';

create function queue.make_partition(p_number bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := queue.clock();
  v_made integer := 0;
  v_current queue.partitions;
  v_next queue.partitions;
  v_interval interval := (select settings.partition_interval from queue.settings);
begin
  -- A beginning in the future was written before the clock was set back.
  update queue.partitions as part
  set begun_at = v_now
  where part.begun_at > v_now or (
    part.begun_at is null
    and part.first_id <= (select case when ids.is_called then ids.last_value else 0 end from queue.job_ids as ids)
  );

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
