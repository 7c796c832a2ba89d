import { randomBytes } from "node:crypto";
import { chown, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Binaries, program } from "./binaries.ts";
import { LocalPostgresError } from "./errors.ts";
import { type Account, type Environment, runProgram } from "./run-program.ts";
import { readServerFile, writeServerFile } from "./server-file.ts";

/** The major version that wrote the cluster; undefined when there is no cluster yet. */
export async function clusterMajor(home: string): Promise<number | undefined> {
  try {
    return Number.parseInt(await readFile(join(clusterDir(home), "PG_VERSION"), "utf8"), 10);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EACCES") {
      throw notOurs(home, error);
    }
    return undefined;
  }
}

export function clusterDir(home: string): string {
  return join(home, "cluster");
}

/**
 * Makes the cluster if there is none. It is built aside and renamed when whole, so that a crash in
 * the middle leaves no half cluster; the password is on disk before the cluster is.
 */
export async function ensureCluster(
  home: string,
  binaries: Binaries,
  options: {
    readonly account: Account | undefined;
    readonly env: Environment;
    readonly superuser: string;
    readonly sync: boolean;
  },
): Promise<void> {
  if ((await clusterMajor(home)) !== undefined) return checkOwner(home);

  const password = randomBytes(18).toString("base64url");
  const passwordFile = join(home, "password.new");
  const building = join(home, "cluster.new");
  await rm(building, { recursive: true, force: true });
  await mkdir(building, { mode: 0o700 });
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (options.account) {
    await chown(building, options.account.uid, options.account.gid);
    await chown(passwordFile, options.account.uid, options.account.gid);
  }
  const locale =
    binaries.major >= 17
      ? ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
      : ["--locale=C"];
  const result = await runProgram(
    program(binaries, "initdb"),
    [
      `--pgdata=${building}`,
      `--username=${options.superuser}`,
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      ...locale,
      ...(options.sync ? [] : ["--no-sync"]),
    ],
    { account: options.account, env: options.env },
  );
  await rm(passwordFile, { force: true });
  if (result.code !== 0) {
    await rm(building, { recursive: true, force: true });
    throw new LocalPostgresError(
      "LOCAL_POSTGRES_START_FAILED",
      `initdb of Postgres ${binaries.version} failed: ${result.output.trim()}`,
      "Set DATABASE_URL to a Postgres you have, or mend what initdb complains about",
    );
  }
  await writeServerFile(home, { superuser: options.superuser, password });
  await rename(building, clusterDir(home));
}

async function checkOwner(home: string): Promise<void> {
  const uid = process.getuid?.();
  const owner = (await stat(clusterDir(home))).uid;
  if (uid !== undefined && uid !== 0 && owner !== uid) throw notOurs(home);
  if ((await readServerFile(home)) === undefined) {
    throw new LocalPostgresError(
      "LOCAL_POSTGRES_DATA_UNUSABLE",
      `${join(home, "server.json")}, which holds the password of the local Postgres, is missing`,
      `Remove ${home} to begin anew with an empty database`,
    );
  }
}

function notOurs(home: string, cause?: unknown): LocalPostgresError {
  return new LocalPostgresError(
    "LOCAL_POSTGRES_DATA_UNUSABLE",
    `The local Postgres data in ${home} belongs to another account`,
    `Run as the account that created it, remove ${home}, or set DATABASE_URL`,
    cause,
  );
}
