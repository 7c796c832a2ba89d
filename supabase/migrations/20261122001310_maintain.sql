-- Maintenance: all that has to be done now and then. Each part succeeds or fails by itself, is bounded, and leaves what somebody
-- holds to the next call; so a call ends within a few seconds whatever there is to do. Partitions are dropped by a call of their own:
-- queue.drop_old_partitions.
--
-- Locks: as the parts say; old rows with skip locked.

-- Rows that are of no use any more: bells of workers that are gone, hand-overs whose lease has ended, workers that no run names.
create function queue.prune_bells()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_since timestamptz := queue.clock() - (select settings.worker_timeout from queue.settings);
  v_count integer;
begin
  delete from queue.bells
  where ctid = any (array(
    select bell.ctid from queue.bells as bell
    where bell.worker_id <> 0 and not exists (
      select from queue.workers as worker where worker.id = bell.worker_id and worker.seen_at >= v_since
    )
    limit 10000
    for update skip locked
  ));
  get diagnostics v_count = row_count;
  delete from queue.passed_bells
  where ctid = any (array(
    select passed.ctid from queue.passed_bells as passed
    where not exists (select from queue.bells as bell where bell.worker_id = passed.worker_id)
    for update skip locked
  ));
  if pg_sequence_last_value('queue.detour_mark') = 1 then
    delete from queue.detours
    where ctid = any (array(
      select old.ctid from queue.detours as old
      where old.at + old.pause_ms * interval '1 millisecond' < queue.clock() - interval '1 minute' or old.at > queue.clock()
      for update skip locked
    ));
    if not exists (select from queue.detours) then
      -- One that is just being made counts as forgotten: the next claim looks from the start.
      perform setval('queue.detour_mark', 0);
    end if;
  end if;
  delete from queue.handovers
  where ctid = any (array(
    select passed.ctid from queue.handovers as passed
    where not exists (select from queue.leases as lease where lease.id = coalesce(passed.lease_id, passed.from_lease_id))
    limit 1000
    for update skip locked
  ));
  return v_count;
end;
$$;
comment on function queue.prune_bells is
  'Deletes bells of workers that are gone, 10000 at most, hand-overs that have ended, 1000 at most, and detours of the past; returns how many bells.';

-- A worker's row outlives it as long as the runs that name it. The oldest have the smallest ids.
create function queue.prune_workers()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_before timestamptz := queue.clock() - (select settings.completed_retention from queue.settings) - interval '1 day';
  v_count integer;
begin
  delete from queue.workers
  where ctid = any (array(
    select worker.ctid
    from (select old.id from queue.workers as old order by old.id limit 2000) as old
    join queue.workers as worker on worker.id = old.id
    where worker.seen_at < v_before
      and not exists (select from queue.leases as lease where lease.worker_id = worker.id)
    for update of worker skip locked
  ));
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;
comment on function queue.prune_workers is
  'Deletes workers that were not seen for longer than completed_retention and a day, of the oldest 2000; returns how many.';

create function queue.expire_dead_letters()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_before timestamptz := v_now - (select settings.failed_retention from queue.settings);
  v_from timestamptz := timestamptz '-infinity';
  v_total integer := 0;
  v_count integer;
begin
  loop
    with gone as (
      delete from queue.dead_letters
      where ctid = any (array(
        select old.ctid from queue.dead_letters as old
        where old.failed_at >= v_from and old.failed_at < v_before
        order by old.failed_at
        limit 500
        for update skip locked
      ))
      returning failed_at
    )
    select count(*), coalesce(max(gone.failed_at), v_from) into v_count, v_from from gone;
    v_total := v_total + v_count;
    exit when v_count < 500 or queue.clock() > v_now + interval '500 milliseconds';
  end loop;
  if v_total > 0 then
    perform queue.note('dead_letters_expired', null, jsonb_build_object('count', v_total));
  end if;
  return v_total;
end;
$$;
comment on function queue.expire_dead_letters is
  'Deletes dead letters older than failed_retention, for half a second; returns how many.';

create function queue.maintain_part(p_part text)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_until timestamptz := queue.clock() + interval '500 milliseconds';
  v_total integer := 0;
  v_count integer;
begin
  case p_part
    when 'clock' then v_total := queue.follow_clock();
    when 'rescue' then
      loop
        v_count := queue.rescue(100);
        v_total := v_total + v_count;
        exit when v_count = 0 or queue.clock() > v_until;
      end loop;
    when 'sweep' then v_total := queue.sweep_racing();
    when 'promote' then
      v_total := queue.promote_due();
      if v_total > 0 and exists (select from queue.bells as bell where bell.queue_id = 0 and bell.worker_id = 0) then
        perform queue.ring_edge(null);
      end if;
    when 'arrivals' then v_total := case when exists (select from queue.arrivals) then queue.adopt_arrivals() else 0 end;
    when 'rings' then v_total := queue.collect_rings();
    when 'partitions' then v_total := queue.extend_partitions();
    when 'bells' then v_total := queue.prune_bells();
    when 'workers' then v_total := queue.prune_workers();
    when 'dead_letters' then v_total := queue.expire_dead_letters();
  end case;
  return v_total;
end;
$$;
comment on function queue.maintain_part is 'Does one part of maintenance; returns how much of it there was to do.';

-- Safe to call from many workers at once, cheap when there is nothing to do.
create function queue.maintain()
returns json
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
as $$
declare
  v_part text;
  v_did jsonb := jsonb '{}';
  v_failed jsonb := jsonb '[]';
  v_is_keeper boolean;
begin
  foreach v_part in array array[
    'clock', 'rescue', 'sweep', 'promote', 'arrivals', 'rings', 'partitions', 'bells', 'workers', 'dead_letters'
  ] loop
    -- One maintainer at a time does what comes now; the others go on with their work.
    if v_part = 'partitions' then
      v_is_keeper := queue.try_guard('maintain');
    end if;
    exit when v_is_keeper is false;
    begin
      v_did := v_did || jsonb_build_object(v_part, queue.maintain_part(v_part));
      perform queue.part_succeeded(v_part);
    exception
      when others then
        v_failed := v_failed || queue.part_failed(v_part, sqlstate, sqlerrm, interval '0');
    end;
  end loop;
  return json_build_object(
    'rescued', coalesce((v_did ->> 'rescue')::integer, 0), 'swept', coalesce((v_did ->> 'sweep')::integer, 0),
    'promoted', coalesce((v_did ->> 'promote')::integer, 0),
    'adopted', coalesce((v_did ->> 'arrivals')::integer, 0),
    'partitions_made', coalesce((v_did ->> 'partitions')::integer, 0),
    'workers_pruned', coalesce((v_did ->> 'workers')::integer, 0),
    'dead_letters_expired', coalesce((v_did ->> 'dead_letters')::integer, 0), 'failed', v_failed
  );
end;
$$;
comment on function queue.maintain is
  'Rescues, sweeps, promotes, adopts arrivals, collects the outcome of rings, makes partitions, prunes; returns what it did, and in failed which parts did not succeed and why: they undo no other.';

create function queue.maintenance_problems()
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := queue.clock();
  v_ahead integer;
  v_left bigint;
  v_failure queue.failures;
  v_number text;
  v_problems jsonb := jsonb '[]';
begin
  select count(*) filter (where part.first_id > ids.last_value), max(part.end_id) - max(ids.last_value)
  into v_ahead, v_left
  from queue.partitions as part, queue.job_ids as ids;
  if v_ahead < 2 then
    v_problems := v_problems || jsonb_build_object('code', 'ids_running_out', 'message', format(
      'Only %s partitions are ready for the jobs to come, and %s ids are left: after that nobody can enqueue. Call queue.maintain(), and see in its answer what fails.',
      v_ahead, v_left));
  end if;
  for v_failure in select known.* from queue.failures as known order by known.part loop
    v_number := substring(v_failure.part from '^partition ([0-9]+)$');
    -- Who is in the way for a while is no problem yet.
    continue when v_failure.code in ('55P03', '40P01', '40001')
      and v_failure.first_failed_at > v_now - case when v_number is null then interval '10 minutes' else interval '1 day' end;
    v_problems := v_problems || jsonb_build_object(
      'code', case when v_number is null then 'maintenance_failing' else 'partition_kept' end,
      'part', v_failure.part, 'since', v_failure.first_failed_at,
      'message', case
        when v_number is null then format(
          'The part %s of maintenance has failed since %s: %s (%s). The other parts go on.', v_failure.part,
          to_char(v_failure.first_failed_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), v_failure.message, v_failure.code)
        when v_failure.code = '55P03' then format(
          'Partition %1$s is past its retention and somebody always uses its tables. End transactions that stay open, or run as the owner: alter table queue.jobs detach partition queue.jobs_p%1$s concurrently; alter table queue.runs detach partition queue.runs_p%1$s concurrently.',
          v_number)
        when v_failure.code = '25001' then format(
          'Partition %s is past its retention, and who drops it calls in a snapshot: begin isolation level read committed; select queue.drop_old_partitions(); commit.',
          v_number)
        else format(
          'Partition %s is past its retention and can''t be dropped: %s (%s). What depends on it, such as a foreign key to queue.jobs, has to go first.',
          v_number, v_failure.message, v_failure.code)
      end);
  end loop;
  return v_problems;
end;
$$;
comment on function queue.maintenance_problems is
  'What queue.health() tells of maintenance: ids_running_out, maintenance_failing, partition_kept, each with what to do.';
