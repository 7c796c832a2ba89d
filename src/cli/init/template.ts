import { readdir, readFile } from "node:fs/promises";
import { readMigrations } from "../../db/migration-files.ts";

/** A file of a Supabase project. */
export interface ProjectFile {
  /** From the project's folder on, with slashes: `supabase/functions/queue-worker/index.ts`. */
  readonly path: string;
  readonly text: string;
}

/** From src/cli/init/ and from dist/cli/init/ the package's own functions are as far away. */
const FUNCTIONS = new URL("../../../supabase/functions/", import.meta.url);

export const WORKER = "queue-worker";

/** Names of the functions that jobs can be routed to, as the package brings them. */
export async function referenceFunctions(): Promise<string[]> {
  return (await folders()).filter((name) => name !== WORKER && !name.startsWith("_"));
}

/** What a project needs for the queue: migrations and the worker's function; with `withReferences` all functions of the package. */
export async function projectFiles(options: {
  readonly version: string;
  readonly withReferences: boolean;
}): Promise<ProjectFile[]> {
  const migrations = (await readMigrations()).map(({ version, name, text }) => ({
    path: `supabase/migrations/${version}_${name}.sql`,
    text,
  }));
  const names = options.withReferences ? await folders() : [WORKER];
  const functions = await Promise.all(names.map((name) => filesOf(name, options.version)));
  return [...migrations, ...functions.flat()];
}

async function folders(): Promise<string[]> {
  const entries = await readdir(FUNCTIONS, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
}

async function filesOf(name: string, version: string): Promise<ProjectFile[]> {
  const folder = new URL(`${name}/`, FUNCTIONS);
  const files = (await readdir(folder)).filter(
    (file) => file === "deno.json" || (file.endsWith(".ts") && !file.endsWith(".test.ts")),
  );
  return Promise.all(
    files.sort().map(async (file) => {
      const text = await readFile(new URL(file, folder), "utf8");
      return {
        path: `supabase/functions/${name}/${file}`,
        text: file === "deno.json" ? withPackage(text, version) : text,
      };
    }),
  );
}

/** The import map with the library from npm, where the repository's own has its sources. */
function withPackage(denoJson: string, version: string): string {
  const config = JSON.parse(denoJson) as { readonly imports: Readonly<Record<string, string>> };
  const imports = Object.entries(config.imports).map(([name, target]) => {
    const [, entry] = /^millrace(\/.+)$/.exec(name) ?? [];
    return [name, entry === undefined ? target : `npm:millrace@${version}${entry}`];
  });
  return `${JSON.stringify({ ...config, imports: Object.fromEntries(imports) }, null, 2)}\n`;
}
