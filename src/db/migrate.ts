import { SchemaVersionError } from "../core/database-errors.ts";
import { callJson, textArray } from "./call.ts";
import { type Migration, readMigrations } from "./migration-files.ts";
import { SCHEMA_VERSION, schemaVersion } from "./schema-version.ts";
import { splitStatements } from "./split-statements.ts";
import type { Queryable, Sql } from "./sql.ts";

export { type Migration, MigrationsMissingError, readMigrations } from "./migration-files.ts";
export { checkSchema } from "./schema-version.ts";

export interface MigrationStatus {
  readonly version: string;
  readonly name: string;
  readonly isApplied: boolean;
}

export interface MigrateOptions {
  /** @default those that come with this library */
  readonly migrations?: readonly Migration[];
  /** Called after each file. */
  readonly onApplied?: (migration: Migration) => void;
}

/** Which of the library's migrations the database has. */
export async function migrationStatus(
  sql: Sql,
  { migrations }: MigrateOptions = {},
): Promise<MigrationStatus[]> {
  const applied = await appliedVersions(sql);
  return (migrations ?? (await readMigrations())).map(({ version, name }) => ({
    version,
    name,
    isApplied: applied.has(version),
  }));
}

/**
 * Applies what is missing, each file in a transaction, and records it as the Supabase CLI does, so that either tool can go on where
 * the other stopped. Safe when several processes do it at once. Answers what it applied.
 *
 * Throws SchemaVersionError, and changes nothing, when the database is newer than the library.
 */
export async function migrate(sql: Sql, options: MigrateOptions = {}): Promise<Migration[]> {
  const migrations = options.migrations ?? (await readMigrations());
  const found = await schemaVersion(sql);
  if (found !== null && found > SCHEMA_VERSION) throw new SchemaVersionError(SCHEMA_VERSION, found);
  const known = await appliedVersions(sql);
  const missing = migrations.filter(({ version }) => !known.has(version));
  if (missing.length > 0) await ensureHistory(sql);
  const done: Migration[] = [];
  for (const migration of missing) {
    if (!(await apply(sql, migration))) continue;
    done.push(migration);
    options.onApplied?.(migration);
  }
  return done;
}

/** All migrations as one text, to be applied by other means. It records them as `migrate` does. */
export async function migrationSql({ migrations }: MigrateOptions = {}): Promise<string> {
  const files = migrations ?? (await readMigrations());
  const texts = files.map(
    ({ version, name, text }) => `-- ${version}_${name}.sql\n\n${text.trimEnd()}\n`,
  );
  const names = files.map(({ version, name }) => `  ('${version}', '${name}')`).join(",\n");
  const record = `-- Recorded, so that other tools can go on from here.
${HISTORY}
insert into supabase_migrations.schema_migrations (version, name) values
${names}
on conflict do nothing;
`;
  return [...texts, record].join("\n");
}

async function appliedVersions(sql: Queryable): Promise<Set<string>> {
  const exists = await callJson(
    sql,
    `select to_json(to_regclass('supabase_migrations.schema_migrations') is not null)::text`,
  );
  if (exists !== true) return new Set();
  const versions = await callJson(
    sql,
    `select coalesce(json_agg(applied.version), '[]')::text
     from supabase_migrations.schema_migrations as applied`,
  );
  return new Set(versions as string[]);
}

/** What the Supabase CLI makes. */
const HISTORY = `create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;`;

/** Two processes that migrate at once take turns; the lock ends with its transaction, so a pooler does no harm. */
const LOCK = `select pg_advisory_xact_lock(hashtextextended('millrace.migrate', 0))`;

async function ensureHistory(sql: Sql): Promise<void> {
  await sql.transaction(async (tx) => {
    await tx.query(LOCK);
    await tx.query(HISTORY);
  });
}

/** False when somebody else applied it meanwhile. */
async function apply(sql: Sql, { version, name, text }: Migration): Promise<boolean> {
  return sql.transaction(async (tx) => {
    await tx.query(LOCK);
    if ((await appliedVersions(tx)).has(version)) return false;
    await tx.query(text);
    await tx.query(
      `insert into supabase_migrations.schema_migrations (version, name, statements)
       values ($1::text, $2::text, $3::text::text[])`,
      [version, name, textArray(splitStatements(text))],
    );
    return true;
  });
}
