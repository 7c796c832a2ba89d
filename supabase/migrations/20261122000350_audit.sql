-- What people and maintenance did: rows that nobody changes.
--
-- Locks: none beyond those of an insert.

create table queue.audit (
  id bigint generated always as identity,
  at timestamptz not null,
  actor text not null,
  action text not null,
  job_id bigint,
  detail jsonb,
  constraint audit_pkey primary key (id)
);
create index audit_job_idx on queue.audit (job_id) where job_id is not null;
comment on table queue.audit is 'What people and maintenance did. Append only.';

create function queue.refuse_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '% is append only', tg_table_name
    using errcode = '42501', hint = 'Write a new row that corrects the old one.';
end;
$$;
comment on function queue.refuse_change is 'Trigger that keeps a table append only.';

create trigger audit_append_only before update or delete or truncate on queue.audit
for each statement execute function queue.refuse_change();

create function queue.note(p_action text, p_job_id bigint, p_detail jsonb)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into queue.audit (at, actor, action, job_id, detail)
  values (
    queue.clock(),
    queue.actor(),
    p_action, p_job_id, p_detail
  );
end;
$$;
comment on function queue.note is 'Writes one row of the audit trail: who did what.';
