import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";

/** `npm:name@version`, the version exact; a path may follow. */
const PINNED = /^npm:\/?((?:@[^/@]+\/)?[^/@]+)@(\d+\.\d+\.\d+[\w.+-]*)(?:\/|$)/;

/**
 * Arguments that let Deno take packages from `node_modules` when all that a configuration imports is installed there in just these
 * versions: then nothing is fetched, and a laptop without network runs them. None otherwise; Deno fetches what it needs.
 */
export async function packageArguments(config: string): Promise<readonly string[]> {
  const wanted = await npmImports(config);
  if (wanted.length === 0) return [];
  const found = await Promise.all(wanted.map((target) => isInstalled(target, dirname(config))));
  return found.every(Boolean) ? ["--node-modules-dir=manual"] : [];
}

async function npmImports(config: string): Promise<string[]> {
  try {
    const { imports = {} } = JSON.parse(await readFile(config, "utf8")) as {
      imports?: Readonly<Record<string, unknown>>;
    };
    return Object.values(imports).filter(
      (target): target is string => typeof target === "string" && target.startsWith("npm:"),
    );
  } catch {
    // With comments, or broken: Deno will say.
    return [];
  }
}

/** Looks in this folder's node_modules and in those above it, as a package would be resolved. */
async function isInstalled(target: string, from: string): Promise<boolean> {
  const [, name, version] = PINNED.exec(target) ?? [];
  if (name === undefined) return false;
  for (let folder = from; ; folder = dirname(folder)) {
    const manifest = join(folder, "node_modules", name, "package.json");
    const text = await readFile(manifest, "utf8").catch(() => undefined);
    if (text !== undefined) return (JSON.parse(text) as { version?: unknown }).version === version;
    if (dirname(folder) === folder) return false;
  }
}
