import postgres from "postgres";

export type TestSql = postgres.Sql;

/**
 * A postgres.js pool that keeps quiet about notices. A URL that says `pgbouncer=true` leads through a pooler in transaction mode: then
 * nothing is prepared.
 */
export function connect(url: string, options: postgres.Options<never> = {}): TestSql {
  const address = new URL(url);
  const isPooled = address.searchParams.get("pgbouncer") === "true";
  address.searchParams.delete("pgbouncer");
  return postgres(address.href, {
    max: 10,
    onnotice: () => {},
    connect_timeout: 10,
    ...(isPooled && { prepare: false }),
    ...options,
  });
}

/** The same URL with another database, and another user if one is named. */
export function withDatabaseName(url: string, database: string, user?: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  if (user !== undefined) changed.username = user;
  return changed.href;
}
