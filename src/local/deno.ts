import { execFile } from "node:child_process";
import { access } from "node:fs/promises";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import type { Environment } from "./environment.ts";
import { LocalPlatformError } from "./errors.ts";

/** A Deno that runs on this machine. */
export interface Deno {
  readonly path: string;
  /** Such as `2.9.5`. */
  readonly version: string;
}

const PROGRAM = process.platform === "win32" ? "deno.exe" : "deno";
const OLDEST_MAJOR = 2;

/**
 * The Deno of the npm package `deno` in the project or beside this library, else that on PATH. Rejects with DENO_NOT_FOUND, which says
 * how to get one.
 */
export async function findDeno({
  projectDir,
  env,
  beside = import.meta.url,
}: {
  readonly projectDir: string;
  readonly env: Environment;
  /** The file from which the package is looked for as well. @default this one */
  readonly beside?: string;
}): Promise<Deno> {
  const places = [
    ...(await ofPackage(join(projectDir, "package.json"))),
    ...(await ofPackage(beside)),
    ...(env["PATH"] ?? "")
      .split(delimiter)
      .filter((folder) => folder !== "")
      .map((folder) => join(folder, PROGRAM)),
  ];
  const tooOld: string[] = [];
  for (const path of new Set(places)) {
    const version = await versionOf(path);
    if (version === undefined) continue;
    if (Number.parseInt(version, 10) >= OLDEST_MAJOR) return { path, version };
    tooOld.push(`${version} in ${dirname(path)}`);
  }
  throw new LocalPlatformError(
    "DENO_NOT_FOUND",
    tooOld.length === 0
      ? "Deno, which runs Supabase's functions, was not found"
      : `Only a Deno that is too old was found: ${tooOld.join(", ")}`,
    "Run: npm install --save-dev deno",
  );
}

/** The package links its program at install; where scripts are switched off, its own launcher does so when first called. */
async function ofPackage(start: string): Promise<string[]> {
  let folder: string;
  try {
    folder = dirname(createRequire(start).resolve("deno/package.json"));
  } catch {
    return [];
  }
  const path = join(folder, PROGRAM);
  if (!(await exists(path))) await run(process.execPath, [join(folder, "bin.cjs"), "--version"]);
  return [path];
}

async function versionOf(path: string): Promise<string | undefined> {
  if (!(await exists(path))) return undefined;
  const output = await run(path, ["--version"]);
  return /^deno (\d+\.\d+\.\d+\S*)/.exec(output ?? "")?.[1];
}

/** What a program printed; undefined when it failed. */
function run(file: string, args: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(file, args, { timeout: 60_000, windowsHide: true }, (error, stdout) =>
      resolve(error ? undefined : stdout),
    );
  });
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
