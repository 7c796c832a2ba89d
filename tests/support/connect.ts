import postgres from "postgres";

export type TestSql = postgres.Sql;

/** A postgres.js pool that keeps quiet about notices. */
export function connect(url: string, options: postgres.Options<never> = {}): TestSql {
  return postgres(url, { max: 10, onnotice: () => {}, connect_timeout: 10, ...options });
}

/** The same URL with another database, and another user if one is named. */
export function withDatabaseName(url: string, database: string, user?: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  if (user !== undefined) changed.username = user;
  return changed.href;
}
