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

/** Stands in for pg_net: the function has its signature, and what it is given stays in its table. */
export async function installNet({ superSql }: TestDatabase): Promise<void> {
  await superSql.unsafe(`
    create schema net;
    create unlogged table net.http_request_queue (
      id bigint generated always as identity primary key,
      url text not null, body jsonb, headers jsonb, timeout_milliseconds integer
    );
    create function net.http_post(
      url text, body jsonb default '{}', params jsonb default '{}',
      headers jsonb default '{"Content-Type": "application/json"}', timeout_milliseconds integer default 5000
    ) returns bigint language sql security definer set search_path = '' as $$
      insert into net.http_request_queue (url, body, headers, timeout_milliseconds)
      values (url, body, headers, timeout_milliseconds) returning id
    $$;
    grant usage on schema net to postgres;
    grant select on net.http_request_queue to postgres;
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
