import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { connect, type TestSql, withDatabaseName } from "./connect.ts";

/** Names as on Supabase: its superuser, and the plain role that applies migrations. */
export const SUPERUSER = "supabase_admin";
export const MIGRATOR = "postgres";
export const TEMPLATE = "millrace_template";

const MIGRATIONS = fileURLToPath(new URL("../../supabase/migrations/", import.meta.url));

/** Makes the roles and the template database in a fresh cluster. */
export async function prepareCluster(superUrl: string): Promise<void> {
  const sql = connect(superUrl, { max: 1 });
  try {
    await createRoles(sql, new URL(superUrl).password);
    await sql.unsafe(`create database ${TEMPLATE} owner ${MIGRATOR}`);
    await applyMigrations(withDatabaseName(superUrl, TEMPLATE, MIGRATOR));
    await installTestClock(withDatabaseName(superUrl, TEMPLATE));
    await sql.unsafe(`alter database ${TEMPLATE} is_template true allow_connections false`);
  } finally {
    await sql.end();
  }
}

/** What the migration role may do here is less than on Supabase, and all that we ask for. */
async function createRoles(sql: TestSql, password: string): Promise<void> {
  await sql.unsafe(`
    create role anon nologin noinherit;
    create role authenticated nologin noinherit;
    create role service_role nologin noinherit bypassrls;
    create role authenticator login noinherit password '${password}';
    grant anon, authenticated, service_role to authenticator;
    create role ${MIGRATOR} login createrole bypassrls password '${password}';
    grant anon, authenticated, service_role, authenticator to ${MIGRATOR} with admin option;
  `);
}

/** The migrations, in the order in which they apply. */
export async function migrationFiles(): Promise<{ name: string; text: string }[]> {
  const names = (await readdir(MIGRATIONS)).filter((name) => name.endsWith(".sql")).sort();
  return Promise.all(
    names.map(async (name) => ({ name, text: await readFile(MIGRATIONS + name, "utf8") })),
  );
}

/** Applies every migration file in a transaction of its own, as the user of the URL. */
export async function applyMigrations(url: string): Promise<void> {
  const sql = connect(url, { max: 1 });
  try {
    for (const { name, text } of await migrationFiles()) {
      try {
        await sql.unsafe(text);
      } catch (error) {
        throw new Error(`migration ${name}: ${describeError(error, text)}`, { cause: error });
      }
    }
  } finally {
    await sql.end();
  }
}

function describeError(error: unknown, text: string): string {
  if (!(error instanceof Error)) return String(error);
  const position = "position" in error ? Number(error.position) : Number.NaN;
  const line = position > 0 ? ` (line ${text.slice(0, position).split("\n").length})` : "";
  const where = "where" in error ? `\n${String(error.where)}` : "";
  return error.message + line + where;
}

/**
 * Replaces `queue.clock()` by one that adds a skew kept in a table, so that every connection to one
 * database shares it. Owner, grants, volatility and parallel safety stay as they are.
 */
async function installTestClock(url: string): Promise<void> {
  const sql = connect(url, { max: 1 });
  try {
    const [clock] = await sql<{ volatility: string; parallel: string }[]>`
      select case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end as volatility,
             case p.proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end as parallel
        from pg_catalog.pg_proc as p
       where p.oid = pg_catalog.to_regprocedure('queue.clock()')
    `;
    if (!clock) return;
    await sql.unsafe(`
      create schema test authorization ${MIGRATOR};
      create table test.clock (skew interval not null);
      alter table test.clock owner to ${MIGRATOR};
      insert into test.clock values ('0');
      create or replace function queue.clock() returns timestamptz
      language plpgsql ${clock.volatility} parallel ${clock.parallel}
      security definer set search_path = pg_catalog, pg_temp
      as $clock$
      begin
        return pg_catalog.clock_timestamp() + (select c.skew from test.clock as c);
      end;
      $clock$;
    `);
  } finally {
    await sql.end();
  }
}
