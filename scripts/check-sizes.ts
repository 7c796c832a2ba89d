/** Finds files that have grown past one idea. Prints each and fails if any. */
import { sourceFiles } from "./source-files.ts";

const LIMITS: Readonly<Record<string, number>> = {
  src: 300,
  "supabase/functions": 400,
  tests: 400,
  scripts: 400,
  examples: 400,
  bench: 400,
};

for (const [folder, limit] of Object.entries(LIMITS)) {
  for (const { path, text } of await sourceFiles([folder])) {
    const lines = text.trimEnd().split("\n").length;
    if (lines <= limit) continue;
    console.log(`${path}: ${lines} lines, more than ${limit}`);
    process.exitCode = 1;
  }
}
