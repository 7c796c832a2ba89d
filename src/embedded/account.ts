import { readFile, stat } from "node:fs/promises";
import { LocalPostgresError } from "./errors.ts";
import { type Account, runProgram } from "./run-program.ts";

const PREFERRED = ["postgres", "_postgres", "nobody"];

/**
 * The account for the server: undefined when we are not root and it may run as ourselves.
 * Postgres refuses to run as root and as a uid without a passwd entry, so root picks an existing
 * account: the owner of a cluster that is already there, else `postgres`, else `nobody`.
 */
export async function serverAccount(clusterDir?: string): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = parsePasswd(await readFile("/etc/passwd", "utf8"));
  const owner = clusterDir === undefined ? undefined : await ownerOf(clusterDir);
  if (owner !== undefined && owner !== 0) {
    const known = accounts.find((account) => account.uid === owner);
    if (known) return known;
  }
  for (const name of PREFERRED) {
    const account = accounts.find((candidate) => candidate.name === name && candidate.uid !== 0);
    if (account) return account;
  }
  throw new LocalPostgresError(
    "LOCAL_POSTGRES_NO_ACCOUNT",
    "Postgres refuses to run as root, and there is no unprivileged account to run it as",
    "Run as an ordinary user, or create one with: useradd --system postgres",
  );
}

/** True when the account can enter the directory; asks the kernel, so that ACLs count too. */
export async function canEnter(directory: string, account: Account | undefined): Promise<boolean> {
  if (account === undefined) return true;
  const result = await runProgram("/bin/sh", ["-c", 'cd "$1"', "sh", directory], { account });
  return result.code === 0;
}

function parsePasswd(text: string): Account[] {
  return text.split("\n").flatMap((line) => {
    const [name, , uid, gid] = line.split(":");
    if (!name || !uid || !gid) return [];
    return [{ name, uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 }];
  });
}

async function ownerOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).uid;
  } catch {
    return undefined;
  }
}
