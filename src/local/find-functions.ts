import { access, readdir } from "node:fs/promises";
import { join } from "node:path";
import { packageArguments } from "./installed-packages.ts";

/** A function in a folder of its own, as Supabase lays them out. */
export interface LocalFunction {
  readonly name: string;
  readonly dir: string;
  readonly entry: string;
  /** Arguments that tell Deno which configuration counts: the function's own, else that of all functions, else none. */
  readonly config: readonly string[];
}

const ENTRIES = ["index.ts", "index.tsx", "index.js", "index.mjs"];
const NAME = /^[A-Za-z0-9][\w-]*$/;

/** The functions in `supabase/functions/`, by name. Folders that begin with `_` are shared code. */
export async function findFunctions(functionsDir: string): Promise<LocalFunction[]> {
  const entries = await readdir(functionsDir, { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(entries.map((entry) => findFunction(functionsDir, entry.name)));
  return found
    .filter((one) => one !== undefined)
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** One function; undefined when there is none of that name. */
export async function findFunction(
  functionsDir: string,
  name: string,
): Promise<LocalFunction | undefined> {
  if (!NAME.test(name)) return undefined;
  const dir = join(functionsDir, name);
  const entry = await firstThatExists(ENTRIES.map((file) => join(dir, file)));
  if (entry === undefined) return undefined;
  return { name, dir, entry, config: await configOf(functionsDir, dir) };
}

async function configOf(functionsDir: string, dir: string): Promise<readonly string[]> {
  for (const folder of [dir, functionsDir]) {
    const config = await firstThatExists([join(folder, "deno.json"), join(folder, "deno.jsonc")]);
    if (config !== undefined) return ["--config", config, ...(await packageArguments(config))];
    const map = await firstThatExists([join(folder, "import_map.json")]);
    if (map !== undefined) return ["--no-config", "--import-map", map];
  }
  return ["--no-config"];
}

async function firstThatExists(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    const isThere = await access(path).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return undefined;
}
