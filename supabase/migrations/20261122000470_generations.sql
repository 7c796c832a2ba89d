-- Generations: no lease id is ever given twice, not after a crash of the server and not on a promoted standby.
--
-- A sequence alone does not promise that. Claims commit asynchronously, so a crash may take back the newest draws of
-- queue.lease_ids, and a standby that lagged never saw them; both would hand the same numbers out again, and a worker that
-- survived could settle a job it never ran. So the first caller after every start of the server moves the sequence on, beyond
-- all that can have been lost.
--
-- The mark that tells whether this was done is an unlogged sequence: a crash and a promotion reset it, and what is set is seen by
-- all sessions at once, whatever becomes of the transaction. See docs/decisions/016.
--
-- Locks: a guard for the moment of the move, and none after it: it is taken in a savepoint that is rolled back, which undoes no sequence.

create unlogged sequence queue.generation_mark as bigint minvalue -9223372036854775808 start 0;
comment on sequence queue.generation_mark is
  'Start of the server, and oid of this sequence, for which the ids were last moved on. Unlogged: reset by a crash or a promotion. Negative when the server''s clock stood before 2020.';

create table queue.generations (
  first_lease_id bigint not null,
  begun_at timestamptz not null,
  cause text not null,
  timeline integer not null,
  first_job_id bigint,
  constraint generations_pkey primary key (first_lease_id),
  constraint generations_cause_known check (cause in ('install', 'restart', 'crash', 'promotion', 'restore'))
);
comment on table queue.generations is
  'One row for each start of the server that was noticed, with the ids that were the next from then on. Append only.';
comment on column queue.generations.cause is
  'install: the first; restart: after an orderly stop; crash: without one; promotion: a standby took over, or a backup was recovered; restore: from a dump.';
comment on column queue.generations.timeline is 'The timeline of the write-ahead log, which a promotion changes.';
comment on column queue.generations.first_job_id is 'Null where the ids of jobs were not moved on.';

-- What the mark says while nothing has happened: seconds of the server's start since 2020, and the mark's own oid, which differs in a
-- restored copy.
create function queue.generation_key()
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (floor(date_part('epoch', pg_postmaster_start_time()))::bigint - 1577836800) * 4294967296
    + 'queue.generation_mark'::regclass::oid::bigint;
end;
$$;
comment on function queue.generation_key is 'The value of queue.generation_mark once the ids were moved on since the server''s start.';

create function queue.ensure_generation()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Written out, because each enqueue passes here and a call of generation_key costs as much as all the rest.
  if pg_sequence_last_value('queue.generation_mark') is distinct from
    (floor(date_part('epoch', pg_postmaster_start_time()))::bigint - 1577836800) * 4294967296
      + 'queue.generation_mark'::regclass::oid::bigint
  then
    perform queue.begin_generation();
  end if;
end;
$$;
comment on function queue.ensure_generation is
  'Called before an id of a lease or of a job is drawn: after a start of the server it moves the sequences on, once.';

create function queue.begin_generation()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key bigint := queue.generation_key();
  v_begun queue.generations;
begin
  if pg_is_in_recovery() then
    raise exception 'this server is a standby and takes no writes' using errcode = '25006',
      hint = 'Connect to the primary; an address may name several servers.';
  end if;
  -- Not until the transaction ends, which may stay open for long. Sequences are immediate, and the row is written afterwards.
  begin
    perform queue.wait_for_guard('generation');
    if pg_sequence_last_value('queue.generation_mark') is distinct from v_key then
      v_begun := queue.move_ids_on();
      perform setval('queue.generation_mark', v_key);
    end if;
    raise exception 'the guard is let go' using errcode = 'MR000';
  exception
    when sqlstate 'MR000' then
      null;
  end;
  if v_begun.first_lease_id is not null then
    insert into queue.generations select v_begun.*;
  end if;
end;
$$;
comment on function queue.begin_generation is 'Moves the ids on if nobody has done so since the server''s start.';

-- Ids of leases go on from the microseconds since 2020: leases are drawn more slowly than that, so whatever was lost, even this very
-- step in another crash, lies behind. They stay below 2^53, which a JSON number holds, for 280 years. Where the clock was set back, lots
-- are drawn instead.
-- Ids of jobs move on only on another timeline, where acknowledged jobs may be missing: to the span after the next, because the lost
-- ones may have begun the next. On the same timeline every acknowledged job is there, but a sequence that was copied with its
-- database may lie behind them: what it drew before the next checkpoint was never logged.
create function queue.move_ids_on()
returns queue.generations
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_timeline integer := ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer;
  v_last queue.generations := (
    select last from queue.generations as last order by last.first_lease_id desc limit 1
  );
  v_mark record;
  v_cause text;
  v_first_job_id bigint;
  v_lease_id bigint;
begin
  select mark.last_value, mark.is_called into v_mark from queue.generation_mark as mark;
  v_cause := case
    when v_last.timeline <> v_timeline then 'promotion'
    when not v_mark.is_called then 'crash'
    when v_mark.last_value & 4294967295 <> 'queue.generation_mark'::regclass::oid::bigint then 'restore'
    else 'restart'
  end;
  v_lease_id := (
    select setval('queue.lease_ids', case
      when ids.last_value < time.us then time.us
      else ids.last_value + 1000000 + floor(random() * 1000000000)::bigint
    end)
    from queue.lease_ids as ids,
      (select floor((date_part('epoch', queue.clock()) - 1577836800) * 1000000)::bigint as us) as time
  );
  if v_cause = 'promotion' then
    v_first_job_id := (
      select max(part.first_id) from (
        select ahead.first_id from queue.partitions as ahead, queue.job_ids as ids
        where ahead.first_id > ids.last_value order by ahead.first_id limit 2
      ) as part
    );
  else
    v_first_job_id := (
      select max(job.id) + 1 from queue.jobs as job, queue.job_ids as ids where job.id > ids.last_value
    );
  end if;
  if v_first_job_id is not null then
    perform setval('queue.job_ids', v_first_job_id, false);
  end if;
  perform setval('queue.workers_id_seq', ids.last_value + 1000) from queue.workers_id_seq as ids;
  return (v_lease_id + 1, queue.clock(), v_cause, v_timeline, v_first_job_id)::queue.generations;
end;
$$;
comment on function queue.move_ids_on is
  'Moves the sequences of leases and workers, and after a promotion that of jobs, beyond all that can have been drawn and lost; returns the row for queue.generations.';

-- The first generation begins here: nothing was drawn yet.
do $$
begin
  insert into queue.generations (first_lease_id, begun_at, cause, timeline)
  values (1, queue.clock(), 'install', ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer);
  perform setval('queue.generation_mark', queue.generation_key());
end;
$$;
