/** Finds files that have grown past one idea. Prints each and fails if any. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ROOT } from "./run.ts";
import { sourceFiles } from "./source-files.ts";

const LIMITS: Readonly<Record<string, number>> = {
  src: 300,
  "supabase/functions": 400,
  tests: 400,
  scripts: 400,
  examples: 400,
  bench: 400,
};
const MIGRATIONS = "supabase/migrations";
const MIGRATION_LIMIT = 300;

function check(path: string, text: string, limit: number): void {
  const lines = text.trimEnd().split("\n").length;
  if (lines <= limit) return;
  console.log(`${path}: ${lines} lines, more than ${limit}`);
  process.exitCode = 1;
}

for (const [folder, limit] of Object.entries(LIMITS)) {
  for (const { path, text } of await sourceFiles([folder])) check(path, text, limit);
}
for (const name of (await readdir(join(ROOT, MIGRATIONS))).sort()) {
  const path = `${MIGRATIONS}/${name}`;
  check(path, await readFile(join(ROOT, path), "utf8"), MIGRATION_LIMIT);
}
