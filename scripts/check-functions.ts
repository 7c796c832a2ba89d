/**
 * Checks the Edge Functions as they are deployed: types by Deno with the function's own deno.json, that this names the package
 * versions that are tested here, and that what it takes from our sources is what the package exports under that name. Prints what is
 * wrong and fails.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ROOT, runTool } from "./run.ts";

const FUNCTIONS = "supabase/functions";

interface PackageJson {
  readonly name?: string;
  readonly exports?: Readonly<Record<string, { readonly default?: string }>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/** Every import of a deno.json that is neither a file nor a package in exactly the version of package.json. */
export function pinBreaches(denoJson: string, packageJson: string): string[] {
  // Both are ours, and read by tools that are stricter than this.
  const { imports = {} } = JSON.parse(denoJson) as { imports?: Record<string, string> };
  const { dependencies, devDependencies } = JSON.parse(packageJson) as PackageJson;
  const versions = { ...devDependencies, ...dependencies };
  return Object.entries(imports).flatMap(([name, target]) => {
    if (/^\.{1,2}\//.test(target)) return [];
    const found = /^npm:((?:@[^/]+\/)?[^@/]+)/.exec(target)?.[1];
    if (found === undefined) return [`${name}: ${target} is neither a file nor an npm package`];
    const version = versions[found];
    if (version === undefined) return [`${name}: ${target} is not a package of package.json`];
    const expected = `npm:${found}@${version}`;
    return target === expected ? [] : [`${name}: ${target} is not ${expected}`];
  });
}

/**
 * Every import of a deno.json from our sources that the package does not export: `millrace init` puts the package in its place. Sources
 * and what is built of them are told apart by `src/` and `dist/`.
 */
export function exportBreaches(denoJson: string, packageJson: string): string[] {
  const { imports = {} } = JSON.parse(denoJson) as { imports?: Record<string, string> };
  const { name: ours = "", exports = {} } = JSON.parse(packageJson) as PackageJson;
  return Object.entries(imports).flatMap(([name, target]) => {
    const [, source] = /^(?:\.\.\/)+src\/(.+)\.ts$/.exec(target) ?? [];
    if (source === undefined) return [];
    const built = exports[name.replace(ours, ".")]?.default;
    return built === `./dist/${source}.js`
      ? []
      : [`${name}: package.json does not export ${target}`];
  });
}

/** The functions by the text of their deno.json: those with the same are checked in one go. */
async function functionsByConfig(): Promise<Map<string, string[]>> {
  const names = (await readdir(join(ROOT, FUNCTIONS), { withFileTypes: true }))
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith("_"))
    .map((entry) => entry.name)
    .sort();
  const groups = new Map<string, string[]>();
  for (const name of names) {
    const config = await readFile(join(ROOT, FUNCTIONS, name, "deno.json"), "utf8");
    groups.set(config, [...(groups.get(config) ?? []), name]);
  }
  return groups;
}

async function check(): Promise<void> {
  const packageJson = await readFile(join(ROOT, "package.json"), "utf8");
  for (const [config, names] of await functionsByConfig()) {
    const breaches = [...pinBreaches(config, packageJson), ...exportBreaches(config, packageJson)];
    for (const breach of breaches) fail(`${names.join(", ")}: ${breach}`);
    const files = names.map((name) => `${FUNCTIONS}/${name}/index.ts`);
    const options = ["--no-lock", "--node-modules-dir=manual"];
    const { ok, output } = await runTool(
      "deno",
      ["check", ...options, "--config", `${FUNCTIONS}/${names[0]}/deno.json`, ...files],
      { DENO_NO_UPDATE_CHECK: "1" },
    );
    if (!ok) fail(output);
  }
}

function fail(message: string): void {
  console.log(message);
  process.exitCode = 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await check();
