-- What operators do to dead letters: run them again, or delete them. Each redrive leaves a run row (the status history), each call an audit row.
--   failed -> pending                              redrive_jobs: with a fresh budget of attempts
--
-- Locks: dead letters in id order, then as hold_ended says.

create function queue.find_dead(
  p_ids bigint[], p_type text, p_tenant_id text, p_fingerprint text, p_failed_before timestamptz, p_limit integer
)
returns setof queue.dead_letters
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select dead.* from queue.dead_letters as dead
  where (p_ids is null or dead.job_id = any (p_ids))
    and (p_type is null or dead.type_id = (select type.id from queue.types as type where type.name = p_type))
    and (p_tenant_id is null or dead.tenant_id = (
      select tenant.id from queue.tenants as tenant where tenant.name = p_tenant_id))
    and (p_fingerprint is null or dead.fingerprint = p_fingerprint)
    and (p_failed_before is null or dead.failed_at < p_failed_before)
  order by dead.failed_at, dead.job_id
  limit p_limit;
$$;
comment on function queue.find_dead is 'Dead letters by id, type, tenant, error fingerprint and age; null means any.';

create function queue.redrive(
  p_ids bigint[], p_type text, p_tenant_id text, p_fingerprint text, p_failed_before timestamptz,
  p_limit integer, p_dry_run boolean, p_reason text, p_with_descendants boolean default false
)
returns table (id bigint, new_id bigint, type text, tenant_id text, failed_at timestamptz, last_error text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_dead queue.dead_letters;
  v_revived bigint[];
  v_ids bigint[] := array(
    select found.job_id
    from queue.find_dead(p_ids, p_type, p_tenant_id, p_fingerprint, p_failed_before, p_limit) as found
  );
begin
  if not coalesce(p_dry_run, false) then
    if p_with_descendants then
      perform queue.wait_for_guard('revive');
    end if;
    perform from queue.dead_letters as dead where dead.job_id = any (v_ids) order by dead.job_id for update;
    perform queue.hold_ended(v_ids);
  end if;
  for v_dead in
    select dead.* from queue.dead_letters as dead
    where dead.job_id = any (v_ids)
    order by dead.failed_at, dead.job_id
  loop
    type := (select known.name from queue.types as known where known.id = v_dead.type_id);
    tenant_id := (select known.name from queue.tenants as known where known.id = v_dead.tenant_id);
    id := v_dead.job_id;
    new_id := v_dead.job_id;
    failed_at := v_dead.failed_at;
    last_error := v_dead.last_error;
    if not coalesce(p_dry_run, false) then
      -- Whoever deletes the dead letter runs the job again; nobody does it twice.
      delete from queue.dead_letters as dead where dead.job_id = v_dead.job_id;
      continue when not found;
      if exists (select from queue.jobs as job where job.id = v_dead.job_id) then
        perform queue.begin_revival(array[v_dead.job_id]);
        perform queue.record_act(v_dead.job_id, 'redriven', 'failed', 'pending', 0::smallint, p_reason);
        perform queue.put_ready(v_dead.job_id, 0::smallint);
        v_revived := v_revived || v_dead.job_id;
      else
        -- Its partition is gone: the copy in the dead letter becomes a new job.
        select made.id into new_id from queue.enqueue_one(
          p_type => type, p_payload => v_dead.payload, p_priority => queue.priority_name(v_dead.priority),
          p_tenant_id => tenant_id, p_max_retries => v_dead.max_retries,
          p_queue => (select line.name from queue.queues as line where line.id = v_dead.queue_id),
          p_options => v_dead.options) as made;
        perform queue.note('redriven', v_dead.job_id, jsonb_build_object('new_id', new_id, 'reason', p_reason));
      end if;
    end if;
    return next;
  end loop;
  if p_with_descendants and v_revived is not null then
    perform queue.revive_flow(v_revived, p_reason);
  end if;
end;
$$;
comment on function queue.redrive is
  'failed -> pending for dead letters that match; with p_dry_run only tells which. With p_with_descendants what their ends cancelled waits for them again. new_id differs where the facts had left with their partition.';

create function queue.purge(
  p_ids bigint[], p_type text, p_tenant_id text, p_fingerprint text, p_failed_before timestamptz,
  p_limit integer, p_dry_run boolean, p_reason text
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids bigint[] := array(
    select found.job_id
    from queue.find_dead(p_ids, p_type, p_tenant_id, p_fingerprint, p_failed_before, p_limit) as found
    order by found.job_id
  );
  v_count integer := cardinality(v_ids);
begin
  if not coalesce(p_dry_run, false) and v_count > 0 then
    perform from queue.dead_letters as dead where dead.job_id = any (v_ids) order by dead.job_id for update;
    delete from queue.dead_letters as dead where dead.job_id = any (v_ids);
    get diagnostics v_count = row_count;
    delete from queue.idempotency_keys as held where held.job_id = any (v_ids);
    perform queue.note('purged', null, jsonb_build_object('count', v_count, 'reason', p_reason, 'ids', to_jsonb(v_ids[1:1000])));
  end if;
  return v_count;
end;
$$;
comment on function queue.purge is 'Deletes dead letters that match, and frees their idempotency keys (their jobs stay failed); returns how many, with p_dry_run how many it would.';
