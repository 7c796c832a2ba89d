import { chmod, chown, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { serverAccount } from "../../src/embedded/account.ts";
import { freePort } from "../../src/embedded/free-port.ts";
import { runProgram } from "../../src/embedded/run-program.ts";
import { startLocalPostgres } from "../../src/embedded/start-local-postgres.ts";
import { connect } from "../support/connect.ts";
import { DEBIAN_15 } from "../support/majors.ts";
import { prepareCluster, SUPERUSER } from "../support/prepare-cluster.ts";

type Settings = Readonly<Record<string, string | number | boolean>>;

/** One Postgres of the campaign, which is stopped, crashed and started again on its port. */
export interface Cluster {
  readonly port: number;
  readonly version: string;
  /** URL of the superuser, to database `postgres`. */
  readonly superUrl: string;
  /** Ends it: `immediate` as a crash would. Nothing when it does not run. */
  stop(mode: "fast" | "immediate"): Promise<void>;
  /** Starts it, if it does not run; resolves when it is ready, recovery included. */
  start(): Promise<void>;
  /** Ends it and removes its files. */
  remove(): Promise<void>;
}

export interface ClusterOptions {
  /** Made if it is not there. */
  readonly folder: string;
  readonly major: number;
  readonly settings: Settings;
}

/** Starts a new cluster, with roles and the template database of the tests. */
export async function makeCluster(options: ClusterOptions): Promise<Cluster> {
  await mkdir(options.folder, { recursive: true, mode: 0o711 });
  const cluster = await openCluster(options);
  await prepareCluster(cluster.superUrl);
  return cluster;
}

/**
 * Copies a running cluster and starts the copy as a hot standby that gets its WAL from `walPort`. By Postgres' own functions for
 * backups, because the embedded server comes without pg_basebackup.
 */
export async function copyCluster(
  from: Cluster,
  { walPort, ...options }: ClusterOptions & { readonly walPort: number },
): Promise<Cluster> {
  const { folder } = options;
  const data = join(folder, "cluster");
  const account = await serverAccount();
  await rm(folder, { recursive: true, force: true });
  await mkdir(data, { recursive: true });
  await own(folder, account);
  await own(data, account, 0o700);
  const sql = connect(from.superUrl, { max: 1, fetch_types: false });
  try {
    const [place] = await sql<{ folder: string }[]>`
      select current_setting('data_directory') as folder from pg_backup_start('copy', true)`;
    const source = place?.folder ?? "";
    // Files that change or vanish meanwhile are what the WAL is for: tar then ends with 1.
    const copied = await runProgram("/bin/sh", [
      "-c",
      'tar -C "$1" --exclude=./postmaster.* --exclude="./pg_wal/*" --exclude="./server.log" -cf - . | tar -C "$2" -xpf -',
      "copy",
      source,
      data,
    ]);
    if (copied.code !== 0) throw new Error(`the copy failed: ${copied.output}`);
    const [label] = await sql<{ labelfile: string }[]>`
      select labelfile from pg_backup_stop(false)`;
    await writeFile(join(data, "backup_label"), label?.labelfile ?? "");
    await writeFile(join(data, "standby.signal"), "");
    for (const name of ["backup_label", "standby.signal"]) await own(join(data, name), account);
    const server = await runProgram("/bin/cp", ["-p", join(source, "..", "server.json"), folder]);
    if (server.code !== 0) throw new Error(server.output);
  } finally {
    await sql.end({ timeout: 1 });
  }
  const { username, password } = new URL(from.superUrl);
  const source = `host=127.0.0.1 port=${walPort} user=${username} password=${password} application_name=standby`;
  return openCluster({ ...options, settings: { ...options.settings, primary_conninfo: source } });
}

async function openCluster({ folder, major, settings }: ClusterOptions): Promise<Cluster> {
  const port = await freePort();
  const open = (): ReturnType<typeof startLocalPostgres> =>
    startLocalPostgres({
      dataDir: folder,
      binaries: major === 15 ? DEBIAN_15 : "embedded",
      superuser: SUPERUSER,
      fsync: false,
      settings,
      port,
    });
  const server = await open();
  // A server that was seen running when it was to be started is used twice by us, and stops with the last.
  const users = [server];
  const stop = async (mode: "fast" | "immediate"): Promise<void> => {
    for (const user of users.splice(0)) await user.stop(mode);
  };
  return {
    port,
    version: server.version,
    superUrl: server.url,
    stop,
    async start() {
      users.push(await open());
    },
    async remove() {
      await stop("immediate").catch(() => undefined);
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function own(
  path: string,
  account: Awaited<ReturnType<typeof serverAccount>>,
  mode?: number,
): Promise<void> {
  if (mode !== undefined) await chmod(path, mode);
  if (account) await chown(path, account.uid, account.gid);
}
