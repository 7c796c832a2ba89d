/**
 * Compiles src/ to dist/: JavaScript, declarations and source maps, file by file.
 *
 * dist/ is as deep as src/, so that `../../supabase/migrations/` means the same from both.
 */
import { chmod, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ROOT, runTool } from "./run.ts";

const DIST = join(ROOT, "dist");
const PROGRAM = join(DIST, "cli", "main.js");

await rm(DIST, { recursive: true, force: true });
const compiled = await runTool("tsc", ["-p", "tsconfig.build.json"]);
if (compiled.ok) {
  await nameJavaScriptInDeclarations();
  await makeExecutable();
} else {
  console.error(compiled.output);
  process.exitCode = 1;
}

/** The compiler leaves `./x.ts` in declarations, where older compilers do not look for `./x.d.ts`. */
async function nameJavaScriptInDeclarations(): Promise<void> {
  for (const name of await readdir(DIST, { recursive: true })) {
    if (!name.endsWith(".d.ts")) continue;
    const path = join(DIST, name);
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replaceAll(/((?:from |import\()"\.{1,2}\/[^"]*)\.ts"/g, '$1.js"'));
  }
}

async function makeExecutable(): Promise<void> {
  const text = await readFile(PROGRAM, "utf8").catch(() => undefined);
  if (text === undefined)
    throw new Error("src/cli/main.ts is missing: package.json names it as bin");
  if (!text.startsWith("#!")) await writeFile(PROGRAM, `#!/usr/bin/env node\n${text}`);
  await chmod(PROGRAM, 0o755);
}
