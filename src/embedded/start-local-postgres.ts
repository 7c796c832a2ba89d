import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { serverAccount } from "./account.ts";
import { type Binaries, type BinaryChoice, findBinaries, program } from "./binaries.ts";
import { clusterDir, clusterMajor, ensureCluster } from "./cluster.ts";
import { LocalPostgresError } from "./errors.ts";
import { freePort } from "./free-port.ts";
import { homeOf, knownHome } from "./home.ts";
import { findPostmaster, type Postmaster } from "./postmaster-file.ts";
import { reachableBinaries } from "./reachable-binaries.ts";
import { type Account, type Environment, runProgram } from "./run-program.ts";
import { readServerFile, type ServerFile, writeServerFile } from "./server-file.ts";
import { withStartLock } from "./start-lock.ts";
import { joinUsers, leaveUsers } from "./users.ts";

export interface LocalPostgresOptions {
  /** Folder that keeps the data between runs; made if missing. */
  readonly dataDir: string;
  /** Which programs to use. @default "auto": embedded, then system */
  readonly binaries?: BinaryChoice;
  /** Whether committed data survives a crash of the machine, not just of the server. @default true */
  readonly fsync?: boolean;
  /** Further server settings; they win over ours. */
  readonly settings?: Readonly<Record<string, string | number | boolean>>;
  /** @default the port of the last run if free, else any free one */
  readonly port?: number;
  /** Name of the superuser of a new cluster. @default "postgres" */
  readonly superuser?: string;
  /** Environment for the lookup of programs on PATH. @default {} */
  readonly env?: Environment;
  readonly log?: (message: string) => void;
  readonly signal?: AbortSignal;
}

export interface LocalPostgres {
  /** Connection URL of the superuser; holds the password. */
  readonly url: string;
  readonly port: number;
  readonly version: string;
  readonly pid: number;
  /** True when another process had started the server. */
  readonly reused: boolean;
  /** The Postgres data folder itself. */
  readonly clusterDir: string;
  /**
   * `fast` disconnects clients and stops the server, unless another process still uses it.
   * `immediate` stops it as a crash would, whoever uses it. Stopping twice is fine.
   */
  stop(mode?: "fast" | "immediate"): Promise<void>;
}

const READY_TIMEOUT_MS = 60_000;
const LOG_LIMIT_BYTES = 8_000_000;

interface Site {
  readonly home: string;
  readonly binaries: Binaries;
  readonly account: Account | undefined;
  readonly env: Environment;
}

/**
 * Starts the Postgres server of a folder, or joins the one that runs there already. It listens on
 * loopback only, with a random password. A server that outlived its process (kill -9) is joined; one
 * that was killed itself is recovered. Rejects with a LocalPostgresError.
 */
export async function startLocalPostgres(options: LocalPostgresOptions): Promise<LocalPostgres> {
  const { env = {}, superuser = "postgres", fsync = true, log = () => {} } = options;
  const dataDir = resolve(options.dataDir);
  const account = await serverAccount(clusterDir(await knownHome(dataDir)));
  const home = await homeOf(dataDir, account);
  if (home !== dataDir) log(`the data is kept in ${home}`);

  return withStartLock(home, options.signal, async () => {
    const major = await clusterMajor(home);
    const found = await findBinaries(options.binaries ?? "auto", { env, major });
    const site: Site = { home, account, env, binaries: await reachableBinaries(found, account) };
    await ensureCluster(home, site.binaries, { account, env, superuser, sync: fsync });
    const file = await readServerFile(home);
    if (file === undefined) throw new Error(`${home}/server.json vanished`);

    const running = await settled(clusterDir(home), options.signal);
    if (running) {
      log(`joined Postgres ${site.binaries.version} on port ${running.port}`);
    }
    const postmaster = running ?? (await launch(site, file, options));
    if (!running) log(`started Postgres ${site.binaries.version} on port ${postmaster.port}`);
    const ticket = await joinUsers(home);
    return handle(site, file, postmaster, { ticket, reused: running !== undefined });
  });
}

function handle(
  site: Site,
  file: ServerFile,
  postmaster: Postmaster,
  { ticket, reused }: { ticket: string; reused: boolean },
): LocalPostgres {
  let stopped = false;
  return {
    url: `postgres://${file.superuser}:${file.password}@127.0.0.1:${postmaster.port}/postgres`,
    port: postmaster.port,
    pid: postmaster.pid,
    version: site.binaries.version,
    clusterDir: clusterDir(site.home),
    reused,
    async stop(mode = "fast") {
      if (stopped) return;
      stopped = true;
      await withStartLock(site.home, undefined, async () => {
        const others = await leaveUsers(site.home, ticket);
        if (others > 0 && mode === "fast") return;
        await shutDown(site, mode);
      });
    },
  };
}

/** Waits until a server that starts or stops has done so; undefined when none runs in the end. */
async function settled(
  cluster: string,
  signal: AbortSignal | undefined,
): Promise<Postmaster | undefined> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    const postmaster = await findPostmaster(cluster);
    if (postmaster === undefined || postmaster.status === "ready") return postmaster;
    signal?.throwIfAborted();
    if (Date.now() > deadline) {
      throw new LocalPostgresError(
        "LOCAL_POSTGRES_START_FAILED",
        `The local Postgres (process ${postmaster.pid}) has been ${postmaster.status} for ${READY_TIMEOUT_MS / 1000} seconds`,
        `Look into ${join(cluster, "server.log")}, or stop that process`,
      );
    }
    await delay(25);
  }
}

async function launch(
  site: Site,
  file: ServerFile,
  options: LocalPostgresOptions,
): Promise<Postmaster> {
  const cluster = clusterDir(site.home);
  const logFile = join(cluster, "server.log");
  const deadline = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    options.signal?.throwIfAborted();
    const port = options.port ?? (await freePort(file.port));
    await writeSettings(cluster, port, options);
    await forgetLongLog(logFile);
    const logStart = await sizeOf(logFile);
    const result = await runProgram(
      program(site.binaries, "pg_ctl"),
      ["start", "--wait", `--timeout=${READY_TIMEOUT_MS / 1000}`, "-D", cluster, "-l", logFile],
      { account: site.account, env: site.env },
    );
    const postmaster = result.code === 0 ? await findPostmaster(cluster) : undefined;
    if (postmaster) {
      await writeServerFile(site.home, { ...file, port });
      return postmaster;
    }
    const said = (await readFile(logFile, "utf8").catch(() => "")).slice(logStart);
    // After a kill -9 the old backends take a moment to notice and let go of the shared memory;
    // and somebody else may have taken the port since we looked.
    const passing =
      said.includes("pre-existing shared memory block") ||
      (options.port === undefined && said.includes("could not bind"));
    if (!passing || Date.now() > deadline) {
      throw new LocalPostgresError(
        "LOCAL_POSTGRES_START_FAILED",
        `Postgres ${site.binaries.version} did not start: ${tail(said) || result.output.trim()}`,
        `Look into ${logFile}, or set DATABASE_URL to a Postgres you have`,
      );
    }
    await delay(100);
  }
}

/** The whole postgresql.conf is ours; initdb's own has nothing but comments and what is said here. */
async function writeSettings(
  cluster: string,
  port: number,
  { fsync = true, settings = {} }: LocalPostgresOptions,
): Promise<void> {
  const all: Record<string, string | number | boolean> = {
    listen_addresses: "127.0.0.1",
    port,
    unix_socket_directories: "",
    password_encryption: "scram-sha-256",
    timezone: "UTC",
    log_timezone: "UTC",
    lc_messages: "C",
    shared_buffers: "128MB",
    jit: false,
    // Commits still reach the kernel, so that a crash of the server alone loses nothing.
    ...(fsync ? {} : { fsync: false, full_page_writes: false }),
    ...settings,
  };
  const lines = Object.entries(all).map(
    ([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'\n`,
  );
  // Overwritten in place, which keeps its owner.
  await writeFile(
    join(cluster, "postgresql.conf"),
    `# Written anew at every start; alter system is kept.\n${lines.join("")}`,
  );
}

async function shutDown(site: Site, mode: "fast" | "immediate"): Promise<void> {
  const cluster = clusterDir(site.home);
  if ((await findPostmaster(cluster)) === undefined) return;
  const result = await runProgram(
    program(site.binaries, "pg_ctl"),
    ["stop", "--wait", `--mode=${mode}`, `--timeout=${READY_TIMEOUT_MS / 1000}`, "-D", cluster],
    { account: site.account, env: site.env },
  );
  if (result.code === 0 || (await findPostmaster(cluster)) === undefined) return;
  throw new LocalPostgresError(
    "LOCAL_POSTGRES_STOP_FAILED",
    `Postgres did not stop: ${result.output.trim()}`,
    `Look into ${join(cluster, "server.log")}`,
  );
}

async function forgetLongLog(logFile: string): Promise<void> {
  if ((await sizeOf(logFile)) > LOG_LIMIT_BYTES) await rm(logFile, { force: true });
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    (found) => found.size,
    () => 0,
  );
}

function tail(text: string): string {
  return text.trim().split("\n").slice(-5).join("\n");
}
