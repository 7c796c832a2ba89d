import { existsSync } from "node:fs";
import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serverAccount } from "../../src/embedded/account.ts";
import { freePort } from "../../src/embedded/free-port.ts";
import type { TestDatabase } from "./database.ts";
import { eventually } from "./eventually.ts";
import { spawnProcess } from "./processes.ts";

/** A pooler in front of one test database. */
export interface TestPooler {
  /** URL of the database's owner through the pooler. */
  readonly url: string;
  /** Any URL of the same database and password, through the pooler. */
  through(url: string): string;
  /** Kills and removes it. */
  stop(): Promise<void>;
}

/** A running PgBouncer in transaction mode. */
export interface Bouncer {
  readonly port: number;
  /** Ends it and removes its files. */
  stop(): Promise<void>;
}

const PROGRAM = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].find(
  (path) => existsSync(path),
);

/** For the `skip` of a suite: the package it needs, or false when it is there. */
export const pgbouncerMissing: string | false = PROGRAM ? false : "needs Debian package pgbouncer";

/** Starts PgBouncer in transaction mode on a free port of loopback. */
export async function startPgBouncer(
  db: TestDatabase,
  { poolSize = 5, users = [] }: { poolSize?: number; users?: readonly string[] } = {},
): Promise<TestPooler> {
  const target = new URL(db.url);
  const { port, stop } = await launchPgBouncer({
    database: `${db.name} = host=127.0.0.1 port=${target.port} dbname=${db.name}`,
    users: [decodeURIComponent(target.username), ...users],
    password: target.password,
    settings: { default_pool_size: poolSize },
  });
  const through = (url: string): string => {
    const changed = new URL(url);
    changed.port = String(port);
    return changed.href;
  };
  return { url: through(db.url), through, stop };
}

/** Starts the program with one line of `[databases]`, users that share a password, and further settings. */
export async function launchPgBouncer(options: {
  readonly database: string;
  readonly users: readonly string[];
  readonly password: string;
  readonly settings: Readonly<Record<string, string | number>>;
}): Promise<Bouncer> {
  if (!PROGRAM) throw new Error(String(pgbouncerMissing));
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), `millrace-test-${process.pid}-bouncer-`));
  const settings = {
    listen_addr: "127.0.0.1",
    listen_port: port,
    unix_socket_dir: "",
    auth_type: "scram-sha-256",
    auth_file: join(folder, "users.txt"),
    pool_mode: "transaction",
    max_client_conn: 500,
    ignore_startup_parameters: "extra_float_digits",
    ...options.settings,
  };
  await writeOwned(folder, {
    "users.txt": options.users.map((user) => `"${user}" "${options.password}"\n`).join(""),
    "pgbouncer.ini": [
      "[databases]",
      options.database,
      "[pgbouncer]",
      ...Object.entries(settings).map(([name, value]) => `${name} = ${value}`),
      "",
    ].join("\n"),
  });
  const program = spawnProcess(PROGRAM, {
    args: [join(folder, "pgbouncer.ini")],
    cwd: "/",
    account: await serverAccount(),
  });
  const stop = async (): Promise<void> => {
    await program.kill("SIGTERM");
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await eventually(() => accepts(port));
  } catch (error) {
    await stop();
    throw new Error(`pgbouncer did not start:\n${program.output()}`, { cause: error });
  }
  return { port, stop };
}

/** PgBouncer refuses to run as root, like Postgres; so its files belong to that account too. */
async function writeOwned(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  const account = await serverAccount();
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(folder, name), text, { mode: 0o600 });
    if (account) await chown(join(folder, name), account.uid, account.gid);
  }
  if (account) await chown(folder, account.uid, account.gid);
  await chmod(folder, 0o700);
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTcp({ host: "127.0.0.1", port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
