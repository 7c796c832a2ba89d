-- What keeps the queue from its work, and lies outside of it: its owner, and replication. Changes no status, takes no lock.

create function queue.server_problems(p_now timestamptz)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problems jsonb := jsonb '[]';
  v_waiting bigint;
begin
  if exists (
    select from pg_catalog.pg_class as class
    join pg_catalog.pg_roles as role on role.oid = class.relowner
    where class.relnamespace = 'queue'::regnamespace and class.relkind in ('r', 'p')
      and not role.rolbypassrls and not role.rolsuper and not exists (
        select from pg_catalog.pg_policy as policy
        where policy.polrelid = class.oid and policy.polname = 'machine' and policy.polroles = array[class.relowner])
  ) then
    v_problems := v_problems || jsonb_build_object('code', 'other_owner', 'message',
      'The queue has another owner than the one who installed it, and row level security hides its rows: as the owner, select queue.adopt().');
  end if;
  -- A commit that waits for a standby longer than this waits for one that is gone.
  select count(*) into v_waiting from pg_catalog.pg_stat_activity as session
  where session.wait_event = 'SyncRep' and session.datname = current_database()
    and session.query_start < p_now - interval '5 seconds';
  if v_waiting > 0 then
    v_problems := v_problems || jsonb_build_object('code', 'replication_stalled', 'message', format(
      '%s sessions wait for a standby to confirm their commits: it is gone or too slow, and nothing is acknowledged until then.', v_waiting));
  end if;
  return v_problems;
end;
$$;
comment on function queue.server_problems is
  'Problems of owner and replication: row level security that hides the queue from its owner, and commits that no standby confirms.';
