/**
 * Holds the rooms of src/ apart: who may import whom, where Node's own modules and SQL text may
 * stand, and no circles. Prints each breach and fails when there is one.
 */
import { fileURLToPath } from "node:url";
import { type SourceFile, sourceFiles } from "./source-files.ts";

/** What each room may import besides itself; rooms that are not here are entry points. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  db: ["core"],
  client: ["db", "core"],
  worker: ["client", "db", "core"],
  http: ["worker", "client", "db", "core"],
  breaker: ["db", "core"],
  processors: ["core"],
  admin: ["db", "core"],
  embedded: ["core"],
  local: ["db", "core"],
};

const ENTRY_ROOMS = ["index.ts", "cli"];
const MAY_USE_NODE = /^src\/(?:cli\/|embedded\/|local\/|db\/migrat)/;
const MAY_HOLD_SQL = /^src\/(?:db|embedded)\//;
const SQL_TEXT =
  /["'`]\s*(?:select\s[^"'`]*?\b(?:from|queue\.|public\.)|insert\s+into\s|update\s+[\w.]+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s+(?:materialized\s+)?\()/i;

/** Every breach of the rules in these files, as `path: what is wrong`. */
export function importBreaches(files: readonly SourceFile[]): string[] {
  return [...files.flatMap(breachesOf), ...circles(files)];
}

function breachesOf(file: SourceFile): string[] {
  const breaches: string[] = [];
  const room = roomOf(file.path);
  if (MAY_IMPORT[room] === undefined && !ENTRY_ROOMS.includes(room)) {
    breaches.push(`${room} is not a known room of src/`);
  }
  for (const { specifier, target } of file.imports) {
    if (specifier.startsWith("node:") && !MAY_USE_NODE.test(file.path)) {
      breaches.push(`may not use ${specifier}: the library runs on every runtime`);
    }
    if (target === undefined) continue;
    const other = target.startsWith("src/") ? roomOf(target) : target;
    if (!mayImport(room, other)) breaches.push(`${room} may not import ${target}`);
    if (!/\.tsx?$/.test(target)) breaches.push(`${specifier} does not end in .ts`);
  }
  if (!MAY_HOLD_SQL.test(file.path) && SQL_TEXT.test(file.text)) {
    breaches.push(
      `holds SQL text (${SQL_TEXT.exec(file.text)?.[0].trim()}…), which belongs in src/db`,
    );
  }
  return breaches.map((breach) => `${file.path}: ${breach}`);
}

function mayImport(room: string, other: string): boolean {
  if (room === other) return true;
  const known = MAY_IMPORT[room];
  if (known !== undefined) return known.includes(other);
  return MAY_IMPORT[other] !== undefined || (room === "cli" && other === "index.ts");
}

function roomOf(path: string): string {
  return path.split("/")[1] ?? path;
}

/**
 * Circles of what is imported at run time: two files may name each other's types. Depth first; each
 * circle is told once, from the file where it was met.
 */
function circles(files: readonly SourceFile[]): string[] {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      found.push(
        `${path}: imports itself through ${[...trail.slice(start + 1), path].join(" → ")}`,
      );
      return;
    }
    if (done.has(path)) return;
    for (const { target, typeOnly } of byPath.get(path)?.imports ?? []) {
      if (target !== undefined && !typeOnly) visit(target, [...trail, path]);
    }
    done.add(path);
  };
  for (const file of files) visit(file.path, []);
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const breaches = importBreaches(await sourceFiles(["src"]));
  for (const breach of breaches) console.log(breach);
  if (breaches.length > 0) process.exitCode = 1;
}
