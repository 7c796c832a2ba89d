-- The claim of a queue with little to do: one statement for what takes ten where it is busy.
--   pending -> processing
--
-- Locks: tokens of ready with skip locked.

-- All that is pending, when that is no more than the claim may take and there is nothing to weigh: no scheduled job is due, no job was
-- lost before, and all belong to one tenant.
create function queue.claim_few(
  p_worker_id integer, p_queue_ids integer[], p_except integer[], p_type_ids integer[], p_limit integer, p_lease_ms integer,
  out o_is_all boolean, out o_ids bigint[], out o_attempts smallint[], out o_lease_id bigint, out o_expires_at timestamptz
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := queue.clock();
  v_from timestamptz := timestamptz '-infinity';
  v_read bigint := pg_stat_get_xact_tuples_returned('queue.scheduled_due_idx'::regclass);
begin
  if pg_sequence_last_value('queue.due_mark') is not null then
    v_from := queue.look_from('queue.due_mark');
  end if;
  o_expires_at := v_now + p_lease_ms * interval '1 millisecond';
  with fit as materialized (
    select coalesce(
      count(*) <= p_limit and min(token.lane) = max(token.lane) and not bool_or(token.crashes > 0), true
    ) and not exists (select from queue.scheduled as due where due.at > v_from and due.at <= v_now) as is_all
    from (
      -- In the order of the claim's index, whose dead entries other claims have found already.
      select token.lane, token.crashes from queue.ready as token
      order by token.queue_id, token.priority, token.lane, token.at, token.id
      limit p_limit + 1
    ) as token
  ),
  taken as (
    delete from queue.ready
    where ctid = any (array(
      select token.ctid from queue.ready as token
      where (select fit.is_all from fit)
        and (p_type_ids is null or token.type_id = any (p_type_ids))
        and (p_queue_ids is null or token.queue_id = any (p_queue_ids))
        and (p_except is null or token.queue_id <> all (p_except))
        and not (select line.is_paused from queue.queues as line where line.id = token.queue_id)
      order by token.queue_id, token.priority, token.lane, token.at, token.id
      for update skip locked
    ))
    returning id, at, priority, attempt
  ),
  leased as (
    insert into queue.leases (id, claimed_at, expires_at, worker_id, crashes, job_ids, attempts)
    -- Not v_now: what was enqueued since then may be among them, and nothing is claimed before it was enqueued.
    select nextval('queue.lease_ids'), queue.clock(), o_expires_at, p_worker_id, 0,
      array_agg(taken.id order by taken.priority, taken.at, taken.id),
      array_agg((taken.attempt + 1)::smallint order by taken.priority, taken.at, taken.id)
    from taken having count(*) > 0
    returning id, job_ids, attempts
  )
  select fit.is_all, leased.job_ids, leased.attempts, leased.id
  into o_is_all, o_ids, o_attempts, o_lease_id
  from fit left join leased on true;
  if o_is_all and v_from = '-infinity'
    and pg_stat_get_xact_tuples_returned('queue.scheduled_due_idx'::regclass) - v_read > 2000
  then
    perform queue.note_look('queue.due_mark', v_now);
  end if;
end;
$$;
comment on function queue.claim_few is
  'Leases all pending jobs of these queues and types, if there are few and nothing to weigh; o_is_all is false when there is, and nothing was done then.';
