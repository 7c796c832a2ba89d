import { createHash } from "node:crypto";
import {
  access,
  chmod,
  chown,
  constants,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  realpath,
  stat,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { canEnter } from "./account.ts";
import { LocalPostgresError } from "./errors.ts";
import type { Account } from "./run-program.ts";

const POINTER = "location";

/**
 * The folder that really holds the cluster of `dataDir`, created if need be. That is `dataDir`
 * itself, unless we are root and the server's account cannot enter it: then it is a folder in
 * /var/tmp, whose name is kept in `<dataDir>/location` so that the data is found again.
 */
export async function homeOf(dataDir: string, account: Account | undefined): Promise<string> {
  await makeFolder(dataDir);
  const real = await realpath(dataDir);
  if (account === undefined) return real;
  await chmod(real, 0o755);
  if (await canEnter(real, account)) return real;

  const prefix = join(
    "/var/tmp",
    `millrace-${createHash("sha256").update(real).digest("hex").slice(0, 8)}-`,
  );
  const known = await readPointer(real);
  // The prefix ties the data to this path: a copied checkout gets a database of its own.
  if (known?.startsWith(prefix) && (await belongsToRoot(known))) return known;

  const home = await mkdtemp(prefix);
  await chmod(home, 0o711);
  await writeFile(join(real, POINTER), `${home}\n`, { mode: 0o600 });
  return home;
}

/**
 * Gives a file that root made to the owner of the folder, who may want to start the server without
 * root the next time. Does nothing for anybody else.
 */
export async function giveToOwner(path: string, home: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const owner = await stat(home);
  await chown(path, owner.uid, owner.gid);
}

/** Where the cluster of `dataDir` is or would be, without creating anything. */
export async function knownHome(dataDir: string): Promise<string> {
  return (await readPointer(dataDir)) ?? dataDir;
}

async function readPointer(dataDir: string): Promise<string | undefined> {
  try {
    return (await readFile(join(dataDir, POINTER), "utf8")).trim();
  } catch {
    return undefined;
  }
}

async function belongsToRoot(folder: string): Promise<boolean> {
  try {
    const found = await lstat(folder);
    return found.isDirectory() && found.uid === 0;
  } catch {
    return false;
  }
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (error) {
    throw new LocalPostgresError(
      "LOCAL_POSTGRES_DATA_UNUSABLE",
      `The folder for the local Postgres data, ${folder}, cannot be created or written`,
      "Run from a folder that you may write to, or as the account that made it, or set DATABASE_URL",
      error,
    );
  }
}
