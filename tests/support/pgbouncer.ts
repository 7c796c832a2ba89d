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
  if (!PROGRAM) throw new Error(String(pgbouncerMissing));
  const target = new URL(db.url);
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), `millrace-test-${process.pid}-bouncer-`));
  const files = {
    "users.txt": [decodeURIComponent(target.username), ...users]
      .map((user) => `"${user}" "${target.password}"\n`)
      .join(""),
    "pgbouncer.ini": [
      "[databases]",
      `${db.name} = host=127.0.0.1 port=${target.port} dbname=${db.name}`,
      "[pgbouncer]",
      "listen_addr = 127.0.0.1",
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = scram-sha-256",
      `auth_file = ${join(folder, "users.txt")}`,
      "pool_mode = transaction",
      `default_pool_size = ${poolSize}`,
      "max_client_conn = 200",
      "ignore_startup_parameters = extra_float_digits",
      "",
    ].join("\n"),
  };
  // PgBouncer refuses to run as root, like Postgres.
  const account = await serverAccount();
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(folder, name), text, { mode: 0o600 });
    if (account) await chown(join(folder, name), account.uid, account.gid);
  }
  if (account) await chown(folder, account.uid, account.gid);
  await chmod(folder, 0o700);

  const pooler = spawnProcess(PROGRAM, {
    args: [join(folder, "pgbouncer.ini")],
    cwd: "/",
    account,
  });
  await eventually(() => accepts(port)).catch((error: unknown) => {
    throw new Error(`pgbouncer did not start:\n${pooler.output()}`, { cause: error });
  });
  const through = (url: string): string => {
    const changed = new URL(url);
    changed.port = String(port);
    return changed.href;
  };
  return {
    url: through(db.url),
    through,
    async stop() {
      await pooler.kill("SIGTERM");
      await rm(folder, { recursive: true, force: true });
    },
  };
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
