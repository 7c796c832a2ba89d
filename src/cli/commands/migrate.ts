import { isInstalledOtherwise } from "../../db/inspect-migrations.ts";
import { checkServerVersion } from "../../db/inspect-server.ts";
import { migrate, migrationSql, migrationStatus, readMigrations } from "../../db/migrate.ts";
import { SCHEMA_VERSION, schemaVersion } from "../../db/schema-version.ts";
import { CliError } from "../cli-error.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { EXIT } from "../exit-codes.ts";
import { table } from "../output/table.ts";
import { countOf } from "../output/words.ts";

/** Applies the migrations that are missing. */
export async function migrateUp(context: CliContext): CommandResult {
  const { sql, place } = await openDatabase(context, { schema: "any", mayCreate: true });
  await checkServerVersion(sql);
  if (await isInstalledOtherwise(sql)) throw installedOtherwise(place);
  const { terminal } = context;
  const applied = await migrate(sql, {
    onApplied: ({ version, name }) => {
      if (!context.isJson) terminal.line(`${terminal.style("good", "✓")} ${version}_${name}`);
    },
  });
  if (context.isJson) {
    const names = applied.map(({ version, name }) => ({ version, name }));
    return void terminal.json({ applied: names, schema_version: await schemaVersion(sql) });
  }
  terminal.line(
    applied.length === 0
      ? `${place} is up to date: schema version ${SCHEMA_VERSION}`
      : `${countOf(applied.length, "migration")} applied to ${place}: schema version ${SCHEMA_VERSION}`,
  );
  return undefined;
}

function installedOtherwise(place: string): CliError {
  return new CliError({
    code: "INSTALLED_OTHERWISE",
    what: `The queue is installed on ${place}, and no migration is recorded as applied`,
    why: "Its SQL was run by other means than millrace and the Supabase CLI, so it is not known what is missing",
    fix: "Record the versions that `millrace migrate status` lists in supabase_migrations.schema_migrations",
    exitCode: EXIT.schema,
  });
}

/** Shows which migrations are applied. */
export async function migrateStatus(context: CliContext): CommandResult {
  const { sql, place } = await openDatabase(context, { schema: "any" });
  const statuses = await migrationStatus(sql);
  const version = await schemaVersion(sql);
  const pending = statuses.filter((one) => !one.isApplied).length;
  const isCurrent = pending === 0 && version === SCHEMA_VERSION;

  const { terminal } = context;
  if (context.isJson) {
    terminal.json({
      migrations: statuses.map(({ version, name, isApplied }) => ({
        version,
        name,
        is_applied: isApplied,
      })),
      pending,
      schema_version: version,
      expected_schema_version: SCHEMA_VERSION,
    });
    return isCurrent ? EXIT.ok : EXIT.schema;
  }
  const { style } = terminal;
  terminal.lines(
    table(
      [
        { title: "version", cell: (one) => one.version },
        { title: "name", cell: (one) => one.name },
        {
          title: "state",
          cell: (one) =>
            one.isApplied ? style("good", "✓ applied") : style("notice", "· missing"),
        },
      ],
      statuses,
      { style, indent: "" },
    ),
  );
  terminal.line();
  terminal.line(verdict(place, pending, version));
  return isCurrent ? EXIT.ok : EXIT.schema;
}

function verdict(place: string, pending: number, version: number | null): string {
  if (version !== null && version > SCHEMA_VERSION) {
    return `${place} has schema version ${version}, newer than this program knows (${SCHEMA_VERSION}): update millrace`;
  }
  if (pending > 0)
    return `${countOf(pending, "migration")} missing on ${place}: run millrace migrate up`;
  return `${place} is up to date: schema version ${version}`;
}

/** Prints the SQL of all migrations. */
export async function migrateSql(context: CliContext): CommandResult {
  if (context.isJson) {
    const files = await readMigrations();
    const migrations = files.map(({ version, name, text: sql }) => ({ version, name, sql }));
    return void context.terminal.json({ migrations });
  }
  context.terminal.raw((await migrationSql()).trimEnd());
  return undefined;
}
