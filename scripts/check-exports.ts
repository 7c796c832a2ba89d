/**
 * Finds exports of src/ that nobody uses: neither imported anywhere nor part of the package's public
 * surface, which is what the entry files of package.json export. A type may also be a word in the
 * signatures of its own file. Prints each and fails if any.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ROOT } from "./run.ts";
import { type SourceFile, sourceFiles } from "./source-files.ts";

const USERS = ["src", "tests", "examples", "bench", "scripts", "supabase/functions"];
const DECLARATION =
  /^export\s+(?:declare\s+|abstract\s+|async\s+)*(function\*?|const|let|class|interface|type|enum)\s+(\w+)/gm;

/** Every unused export, as `path: name`. `entries` are the paths of the public surface. */
export function deadExports(files: readonly SourceFile[], entries: readonly string[]): string[] {
  const used = new Set<string>();
  for (const file of files) {
    for (const { target, names } of file.imports) {
      for (const name of names) used.add(`${target}: ${name}`);
    }
  }
  const dead: string[] = [];
  for (const { path, text } of files) {
    if (!path.startsWith("src/") || entries.includes(path) || used.has(`${path}: *`)) continue;
    for (const [, kind = "", name = ""] of text.matchAll(DECLARATION)) {
      if (used.has(`${path}: ${name}`) || (isType(kind) && occurrences(text, name) > 1)) continue;
      dead.push(`${path}: ${name}`);
    }
  }
  return dead;
}

function isType(kind: string): boolean {
  return kind === "interface" || kind === "type";
}

function occurrences(text: string, name: string): number {
  return [...text.matchAll(new RegExp(`\\b${name}\\b`, "g"))].length;
}

/** The sources behind `exports` and `bin` of package.json. */
export function entryFiles(packageJson: string): string[] {
  const built = new Set(packageJson.match(/\.\/dist\/[^"]+\.js/g));
  return [...built].map((path) => path.replace("./dist/", "src/").replace(/\.js$/, ".ts"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const entries = entryFiles(await readFile(join(ROOT, "package.json"), "utf8"));
  const dead = deadExports(await sourceFiles(USERS), entries);
  for (const one of dead) console.log(`${one} is exported, but nobody imports it`);
  if (dead.length > 0) process.exitCode = 1;
}
