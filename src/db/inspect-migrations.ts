import { migrationStatus } from "./migrate.ts";
import { SCHEMA_VERSION, schemaVersion } from "./schema-version.ts";
import type { Sql } from "./sql.ts";

/** Whether the queue is there, in our version, although no migration is recorded: its SQL was run by other means. */
export async function isInstalledOtherwise(sql: Sql): Promise<boolean> {
  if ((await schemaVersion(sql)) !== SCHEMA_VERSION) return false;
  return (await migrationStatus(sql)).every((migration) => !migration.isApplied);
}
