import { execFile } from "node:child_process";
import { readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Deno } from "./deno.ts";
import type { LocalFunction } from "./find-functions.ts";

/** When and how large each file was; a path without a file is missing here. */
export type Stamps = ReadonlyMap<string, string>;

/**
 * The files that a function is made of and that lie beside it: its folder, shared code, and the `.env` of all functions. New ones
 * count as soon as they are there.
 */
export async function nearFiles(fn: LocalFunction): Promise<string[]> {
  const functionsDir = dirname(fn.dir);
  const config = fn.config.find((one) => !one.startsWith("--"));
  const found = await Promise.all([fn.dir, join(functionsDir, "_shared")].map(filesIn));
  return [
    ...found.flat(),
    join(functionsDir, ".env"),
    ...["deno.json", "deno.jsonc", "import_map.json"].map((name) => join(functionsDir, name)),
    ...(config === undefined ? [] : [config]),
  ];
}

/** The local files that the function imports, wherever they lie, as Deno resolves them; none when Deno can't tell. */
export async function importedFiles(
  deno: Deno,
  fn: LocalFunction,
  environment: Readonly<Record<string, string>>,
): Promise<string[]> {
  const output = await new Promise<string>((resolve) => {
    execFile(
      deno.path,
      ["info", "--json", "--no-lock", "--quiet", ...fn.config, fn.entry],
      { cwd: fn.dir, env: { ...environment }, timeout: 60_000, maxBuffer: 64e6, windowsHide: true },
      (error, stdout) => resolve(error ? "" : stdout),
    );
  });
  return localModules(output);
}

function localModules(output: string): string[] {
  if (output === "") return [];
  const { modules } = JSON.parse(output) as { modules?: readonly { specifier?: unknown }[] };
  return (modules ?? []).flatMap(({ specifier }) =>
    typeof specifier === "string" && specifier.startsWith("file:")
      ? [fileURLToPath(specifier)]
      : [],
  );
}

export async function stampsOf(paths: Iterable<string>): Promise<Stamps> {
  const stamps = new Map<string, string>();
  await Promise.all(
    [...new Set(paths)].map(async (path) => {
      const found = await stat(path).catch(() => undefined);
      if (found) stamps.set(path, `${found.mtimeMs}:${found.size}:${found.ino}`);
    }),
  );
  return stamps;
}

/** A file that is not as it was, or is new, or gone; undefined when all is the same. */
export function firstChange(before: Stamps, after: Stamps): string | undefined {
  for (const [path, stamp] of after) if (before.get(path) !== stamp) return path;
  for (const path of before.keys()) if (!after.has(path)) return path;
  return undefined;
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(
    entries.map((entry) => {
      const path = join(folder, entry.name);
      if (!entry.isDirectory()) return [path];
      return entry.name === "node_modules" || entry.name === ".git" ? [] : filesIn(path);
    }),
  );
  return found.flat();
}
