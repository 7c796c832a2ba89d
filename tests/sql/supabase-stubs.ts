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

/** What was sent so far, oldest first. */
export async function netRequests({ superSql }: TestDatabase): Promise<NetRequest[]> {
  const rows = await superSql<NetRequest[]>`
    select url, body, headers, timeout_milliseconds from net.http_request_queue order by id`;
  return rows.map((row) => ({ ...row }));
}
