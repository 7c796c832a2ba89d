import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { QueueError } from "../core/errors.ts";

export interface Migration {
  /** The digits in front of the file's name: `20261122000100`. */
  readonly version: string;
  /** The rest of the file's name, without `.sql`. */
  readonly name: string;
  readonly text: string;
}

/** The package is not complete. */
export class MigrationsMissingError extends QueueError {
  override readonly name = "MigrationsMissingError";
  readonly code = "MIGRATIONS_MISSING";
}

/** From src/db/ and from dist/src/db/: the folder is part of the package either way. */
const PLACES = ["../../supabase/migrations/", "../../../supabase/migrations/"];

/** The migrations that come with this library, in the order to apply them. */
export async function readMigrations(): Promise<Migration[]> {
  for (const place of PLACES) {
    const folder = fileURLToPath(new URL(place, import.meta.url));
    const files = await readdir(folder).catch(() => []);
    const migrations = await Promise.all(files.sort().map((file) => readMigration(folder, file)));
    const found = migrations.filter((migration) => migration !== undefined);
    if (found.length > 0) return found;
  }
  throw new MigrationsMissingError("The package's SQL migrations are missing", {
    hint: "Install millrace again; supabase/migrations belongs to the package.",
  });
}

async function readMigration(folder: string, file: string): Promise<Migration | undefined> {
  const [, version, name] = /^(\d+)_(.+)\.sql$/.exec(file) ?? [];
  if (version === undefined || name === undefined) return undefined;
  return { version, name, text: await readFile(`${folder}/${file}`, "utf8") };
}
