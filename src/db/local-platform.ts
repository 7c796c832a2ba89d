import { callJson } from "./call.ts";
import { NET_STAND_IN, VAULT_STAND_IN } from "./local-platform-sql.ts";
import type { Queryable, Sql } from "./sql.ts";

/** Our stand-in, the real extension, something else under that name, or nothing. */
export type Presence = "stand-in" | "real" | "foreign" | "missing";

/** What a database has of what Supabase brings. */
export interface LocalPlatform {
  readonly net: Presence;
  readonly vault: Presence;
}

/** The channel that is notified after a commit that brings requests. */
export const NET_CHANNEL = "millrace_net";

/** Looks, and changes nothing. */
export async function localPlatform(db: Queryable): Promise<LocalPlatform> {
  return (await callJson(
    db,
    `select json_build_object(
       'net', case
         when exists (select from pg_catalog.pg_extension where extname = 'pg_net') then 'real'
         when to_regprocedure('net.millrace_wake()') is not null then 'stand-in'
         when to_regnamespace('net') is not null then 'foreign'
         else 'missing' end,
       'vault', case
         when exists (select from pg_catalog.pg_extension where extname = 'supabase_vault') then 'real'
         when obj_description(to_regnamespace('vault'), 'pg_namespace') like '%made by Millrace.' then 'stand-in'
         when to_regnamespace('vault') is not null then 'foreign'
         else 'missing' end)::text`,
  )) as LocalPlatform;
}

/**
 * Makes the stand-ins of pg_net and Vault that are missing and answers what is there then; what is there already is left alone. Only
 * for a database on this machine. They belong to the caller, who should be the role that applied the migrations.
 */
export async function installLocalPlatform(sql: Sql): Promise<LocalPlatform> {
  return sql.transaction(async (tx) => {
    // Two that start at the same time must not both find nothing.
    await tx.query("select pg_advisory_xact_lock(7245839104)");
    const { net, vault } = await localPlatform(tx);
    if (net === "missing") await tx.query(NET_STAND_IN);
    if (vault === "missing") await tx.query(VAULT_STAND_IN);
    return localPlatform(tx);
  });
}

/** Sets a secret of Vault by its name, the real one's or the stand-in's. */
export async function setVaultSecret(sql: Sql, name: string, secret: string): Promise<void> {
  await sql.transaction(async (tx) => {
    const id = await callJson(
      tx,
      "select to_json(secret.id)::text from vault.secrets as secret where secret.name = $1::text for update",
      [name],
    );
    if (typeof id === "string") {
      await tx.query("select vault.update_secret($1::text::uuid, $2::text)", [id, secret]);
    } else {
      await tx.query("select vault.create_secret($1::text, $2::text, $3::text)", [
        secret,
        name,
        "set by millrace dev",
      ]);
    }
  });
}

/** Removes a secret if it still has this value: somebody else may have set it since. */
export async function removeVaultSecret(sql: Sql, name: string, secret: string): Promise<void> {
  await sql.query(
    `delete from vault.secrets as kept
     where kept.id = (select one.id from vault.decrypted_secrets as one
                      where one.name = $1::text and one.decrypted_secret = $2::text)`,
    [name, secret],
  );
}

/** A request that `net.http_post` left. */
export interface NetRequest {
  readonly id: string;
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  readonly timeoutMs: number;
}

/**
 * Takes the oldest requests out of the queue; several may do so at the same time. Takes nothing where the real pg_net is, which
 * sends them itself.
 */
export async function takeNetRequests(
  db: Queryable,
  limit: number,
): Promise<readonly NetRequest[]> {
  return (await callJson(
    db,
    `with chosen as materialized (
       select request.id from net.http_request_queue as request
       where not exists (select from pg_catalog.pg_extension where extname = 'pg_net')
       order by request.id limit $1::text::integer
       for update skip locked
     ), taken as (
       delete from net.http_request_queue as request using chosen
       where request.id = chosen.id
       returning request.*
     )
     select coalesce(json_agg(json_build_object(
         'id', taken.id::text, 'method', taken.method, 'url', taken.url,
         'headers', coalesce(taken.headers, '{}'),
         'body', convert_from(taken.body, 'UTF8'),
         'timeoutMs', taken.timeout_milliseconds) order by taken.id), '[]')::text
     from taken`,
    [limit],
  )) as readonly NetRequest[];
}

/** What became of a request. */
export type NetResponse =
  | {
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly content: string;
    }
  | { readonly error: string; readonly timedOut: boolean };

export async function recordNetResponse(
  db: Queryable,
  id: string,
  response: NetResponse,
): Promise<void> {
  const answered = "status" in response ? response : undefined;
  const failed = "error" in response ? response : undefined;
  await db.query(
    `insert into net._http_response (id, status_code, content_type, headers, content, timed_out, error_msg)
     values ($1::text::bigint, $2::text::integer, $3::text, $4::text::jsonb, $5::text, $6::text::boolean, $7::text)`,
    [
      id,
      answered?.status ?? null,
      answered?.headers["content-type"] ?? null,
      answered ? JSON.stringify(answered.headers) : null,
      // Postgres keeps no NUL in a text.
      answered?.content.replaceAll("\0", "") ?? null,
      failed?.timedOut ?? false,
      failed?.error ?? null,
    ],
  );
}

/** Forgets responses as old as pg_net forgets them. */
export async function forgetNetResponses(db: Queryable): Promise<void> {
  await db.query(
    "delete from net._http_response as response where response.created < clock_timestamp() - interval '6 hours'",
  );
}
