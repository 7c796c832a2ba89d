import type { TestDatabase } from "../support/database.ts";

/** A request that the stub of pg_net was asked to send. */
export interface NetRequest {
  readonly url: string;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeout_milliseconds: number;
}

/** Stands in for Vault: secrets are read from a view, as on Supabase, by the role that owns our functions. */
export async function installVault(
  { superSql }: TestDatabase,
  secrets: Readonly<Record<string, string>> = {},
): Promise<void> {
  await superSql.unsafe(`
    create schema vault;
    create table vault.secrets (name text primary key, secret text not null);
    create view vault.decrypted_secrets as select name, secret as decrypted_secret from vault.secrets;
    grant usage on schema vault to postgres;
    grant select on vault.decrypted_secrets to postgres;
  `);
  for (const [name, secret] of Object.entries(secrets)) {
    await superSql`insert into vault.secrets values (${name}, ${secret})`;
  }
}

/**
 * Stands in for pg_net: the function has its signature, and what it is given stays in its table until answerRequests() takes it,
 * as pg_net's worker would.
 */
export async function installNet({ superSql }: TestDatabase): Promise<void> {
  await superSql.unsafe(`
    create schema net;
    -- The test's clock, once the migrations have brought it.
    create function net.moment() returns timestamptz language plpgsql as $$
    begin
      return queue.clock();
    exception when invalid_schema_name then
      return clock_timestamp();
    end;
    $$;
    create unlogged table net.http_request_queue (
      id bigint generated always as identity primary key,
      url text not null, body jsonb, headers jsonb, timeout_milliseconds integer
    );
    create unlogged table net._http_response (
      id bigint, status_code integer, content_type text, headers jsonb, content text, timed_out boolean, error_msg text,
      created timestamptz not null default net.moment()
    );
    create index on net._http_response (created);
    create function net.http_post(
      url text, body jsonb default '{}', params jsonb default '{}',
      headers jsonb default '{"Content-Type": "application/json"}', timeout_milliseconds integer default 5000
    ) returns bigint language sql security definer set search_path = '' as $$
      insert into net.http_request_queue (url, body, headers, timeout_milliseconds)
      values (url, body, headers, timeout_milliseconds) returning id
    $$;
    grant usage on schema net to postgres;
    grant select on net.http_request_queue, net._http_response to postgres;
  `);
}

/** A message that the stub of Realtime was given. */
export interface RealtimeMessage {
  readonly topic: string;
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly private: boolean;
}

/**
 * Stands in for Realtime: `send` keeps messages in its table, and `topic()` is what Realtime sets while it asks whether a user may join
 * a private channel. On Supabase the table belongs to another role, which lets ours add policies; here it is ours.
 */
export async function installRealtime({ superSql }: TestDatabase): Promise<void> {
  await superSql.unsafe(`
    create schema realtime;
    create table realtime.messages (
      id bigint generated always as identity primary key,
      topic text not null, extension text not null, payload jsonb, event text, private boolean
    );
    alter table realtime.messages owner to postgres, enable row level security;
    create function realtime.topic() returns text language sql stable set search_path = '' as $$
      select nullif(current_setting('realtime.topic', true), '')
    $$;
    create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
    returns void language sql security definer set search_path = '' as $$
      insert into realtime.messages (topic, extension, payload, event, private)
      values (topic, 'broadcast', payload, event, private)
    $$;
    grant usage on schema realtime to postgres, anon, authenticated;
    grant select, insert on realtime.messages to anon, authenticated;
  `);
}

/** What was sent to Realtime so far, oldest first. */
export async function realtimeMessages({ superSql }: TestDatabase): Promise<RealtimeMessage[]> {
  const rows = await superSql<RealtimeMessage[]>`
    select topic, event, payload, private from realtime.messages order by id`;
  return rows.map((row) => ({ ...row }));
}

/** What was sent so far, oldest first. */
export async function netRequests({ superSql }: TestDatabase): Promise<NetRequest[]> {
  const rows = await superSql<NetRequest[]>`
    select url, body, headers, timeout_milliseconds from net.http_request_queue order by id`;
  return rows.map((row) => ({ ...row }));
}

/** How a request ended: as pg_net would write it down. */
export interface NetOutcome {
  readonly status?: number;
  readonly content?: string;
  readonly timedOut?: boolean;
  readonly error?: string;
}

/** Sends what waits, as pg_net's worker does, with the same outcome for all; returns how many. */
export async function answerRequests(
  { superSql }: TestDatabase,
  { status, content, timedOut, error }: NetOutcome = { status: 202 },
): Promise<number> {
  const rows = await superSql`
    with sent as (delete from net.http_request_queue returning id)
    insert into net._http_response (id, status_code, content, timed_out, error_msg)
    select sent.id, ${status ?? null}::integer, ${content ?? null}::text, ${timedOut ?? null}::boolean, ${error ?? null}::text
    from sent returning id`;
  return rows.length;
}

/**
 * Stands in for pg_cron: tables, functions and policies as it has them, and nothing ever runs. Without seconds it refuses
 * "10 seconds" as those before 1.5 do.
 */
export async function installCron(
  { superSql }: TestDatabase,
  { seconds = true }: { readonly seconds?: boolean } = {},
): Promise<void> {
  await superSql.unsafe(`
    create schema cron;
    create table cron.job (
      jobid bigint generated always as identity primary key, schedule text not null, command text not null,
      nodename text not null default 'localhost', nodeport integer not null default 5432,
      database text not null default current_database(), username text not null default current_user,
      active boolean not null default true, jobname text, unique (jobname, username)
    );
    create table cron.job_run_details (
      jobid bigint, runid bigint generated always as identity primary key, job_pid integer, database text, username text,
      command text, status text, return_message text, start_time timestamptz, end_time timestamptz
    );
    alter table cron.job enable row level security;
    create policy cron_job_policy on cron.job using (username = current_user);
    alter table cron.job_run_details enable row level security;
    create policy cron_job_run_details_policy on cron.job_run_details using (username = current_user);
    create table cron.knows (seconds boolean not null);
    create function cron.schedule(job_name text, schedule text, command text)
    returns bigint language plpgsql security definer set search_path = '' as $$
    #variable_conflict use_variable
    declare
      caller text := coalesce(nullif(current_setting('role'), 'none'), session_user);
      made bigint;
    begin
      if schedule !~ '^([-0-9*/,]+ ){4}[-0-9*/,]+$'
        and not (schedule ~ '^([1-9]|[1-5][0-9]) seconds$' and (select knows.seconds from cron.knows))
      then
        raise exception 'invalid schedule: %', schedule using errcode = 'invalid_parameter_value';
      end if;
      insert into cron.job as old (jobname, schedule, command, username) values (job_name, schedule, command, caller)
      on conflict (jobname, username) do update set schedule = excluded.schedule, command = excluded.command
      returning old.jobid into made;
      return made;
    end $$;
    create function cron.unschedule(job_id bigint)
    returns boolean language plpgsql security definer set search_path = '' as $$
    begin
      delete from cron.job where jobid = job_id;
      if not found then
        raise exception 'could not find valid entry for job %', job_id;
      end if;
      return true;
    end $$;
    grant usage on schema cron to postgres;
    grant select on cron.job, cron.job_run_details to public;
    grant delete on cron.job_run_details to public;
  `);
  await superSql`insert into cron.knows values (${seconds})`;
}
