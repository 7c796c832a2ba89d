import { SchemaVersionError } from "../core/database-errors.ts";
import { callJson } from "./call.ts";
import type { Queryable } from "./sql.ts";

/** The schema version this library was made for. */
export const SCHEMA_VERSION = 1;

/** The version of the schema in the database; null when there is none. */
export async function schemaVersion(db: Queryable, signal?: AbortSignal): Promise<number | null> {
  const ask = (text: string): Promise<unknown> => callJson(db, text, [], { signal });
  const isThere = await ask(
    `select to_json(to_regprocedure('queue.schema_version()') is not null)::text`,
  );
  if (isThere !== true) return null;
  return (await ask(`select to_json(queue.schema_version())::text`)) as number;
}

/** Whether a newer schema still serves this library: so databases are migrated first, and programs replaced one by one. */
export async function stillServes(db: Queryable, signal?: AbortSignal): Promise<boolean> {
  const oldest = await callJson(db, `select to_json(queue.serves_version())::text`, [], { signal });
  return (oldest as number) <= SCHEMA_VERSION;
}

/** Throws SchemaVersionError unless the database has the schema that this library was made for, or a newer one that serves it. */
export async function checkSchema(db: Queryable, signal?: AbortSignal): Promise<void> {
  const found = await schemaVersion(db, signal);
  if (found === SCHEMA_VERSION) return;
  if (found !== null && found > SCHEMA_VERSION && (await stillServes(db, signal))) return;
  throw new SchemaVersionError(SCHEMA_VERSION, found);
}
