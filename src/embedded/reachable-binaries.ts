import { createHash } from "node:crypto";
import { chmod, cp, lstat, mkdtemp, readdir, realpath, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Binaries, program } from "./binaries.ts";
import { type Account, runProgram } from "./run-program.ts";

/**
 * The same programs at a place where the account can run them: in place when it can, else a copy
 * that is made once in the temporary folder. A checkout under a home folder with mode 700 is the
 * usual case for a copy.
 */
export async function reachableBinaries(
  binaries: Binaries,
  account: Account | undefined,
): Promise<Binaries> {
  if (account === undefined || (await runs(binaries, account))) return binaries;

  const source = await realpath(dirname(binaries.binDir));
  const copy = join(tmpdir(), `millrace-postgres-${binaries.version}-${await fingerprint(source)}`);
  const copied: Binaries = { ...binaries, binDir: join(copy, "bin") };
  if ((await isOurs(copy)) && (await complete(copy, source))) return copied;

  const partial = await mkdtemp(`${copy}-`);
  await cp(source, partial, { recursive: true, verbatimSymlinks: true, force: true });
  await openForReading(partial);
  if (await tryRename(partial, copy)) return copied;
  if ((await isOurs(copy)) && (await complete(copy, source))) {
    await rm(partial, { recursive: true, force: true });
    return copied;
  }
  // Somebody else holds that name, in a folder that anyone may write to: trust only our own copy.
  return { ...binaries, binDir: join(partial, "bin") };
}

async function runs(binaries: Binaries, account: Account): Promise<boolean> {
  const version = await runProgram(program(binaries, "postgres"), ["--version"], { account });
  if (version.code !== 0) return false;
  // initdb also reads its templates; a strict umask at install time may hide them alone.
  const shares = ["share/postgresql", "share"].map((folder) => join(binaries.binDir, "..", folder));
  for (const share of shares) {
    if (await exists(join(share, "postgres.bki"))) {
      const readable = await runProgram(
        "/bin/sh",
        ["-c", 'test -r "$1"/postgres.bki', "sh", share],
        {
          account,
        },
      );
      return readable.code === 0;
    }
  }
  return true;
}

async function fingerprint(source: string): Promise<string> {
  const { mtimeMs, size } = await stat(join(source, "bin"));
  return createHash("sha256").update(`${source} ${mtimeMs} ${size}`).digest("hex").slice(0, 12);
}

async function isOurs(copy: string): Promise<boolean> {
  try {
    const found = await lstat(copy);
    return found.isDirectory() && found.uid === 0 && (found.mode & 0o022) === 0;
  } catch {
    return false;
  }
}

/** Cleaners of temporary folders remove single files: fills in what is missing, touches no other. */
async function complete(copy: string, source: string): Promise<boolean> {
  if ((await countEntries(copy)) === (await countEntries(source))) return true;
  await cp(source, copy, { recursive: true, verbatimSymlinks: true, force: false });
  await openForReading(copy);
  return (await countEntries(copy)) === (await countEntries(source));
}

async function countEntries(folder: string): Promise<number> {
  return (await readdir(folder, { recursive: true })).length;
}

async function openForReading(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue;
    const path = join(entry.parentPath, entry.name);
    const { mode } = await stat(path);
    await chmod(path, entry.isDirectory() || (mode & 0o100) !== 0 ? 0o755 : 0o644);
  }
}

async function tryRename(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch {
    return false;
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
