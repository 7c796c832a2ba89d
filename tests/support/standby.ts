import { chmod, chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { serverAccount } from "../../src/embedded/account.ts";
import { freePort } from "../../src/embedded/free-port.ts";
import { runProgram } from "../../src/embedded/run-program.ts";
import { connect, type TestSql } from "./connect.ts";
import { eventually } from "./eventually.ts";
import { DEBIAN_15 } from "./majors.ts";
import { placeOfClusters } from "./places.ts";
import type { TestServer } from "./server.ts";

/** A streaming copy of another cluster (Debian's Postgres 15), of which it takes over when it is promoted. */
export interface Standby extends TestServer {
  /** How it calls itself, for synchronous_standby_names. */
  readonly applicationName: string;
  /** Makes it a primary; resolves when it takes writes. */
  promote(): Promise<void>;
  /** Waits until it has replayed all that the primary had written when this was called. */
  caughtUp(): Promise<void>;
  /** Ends it, `immediate` as a crash would; `start` brings it back on its port. */
  halt(mode?: "fast" | "immediate"): Promise<void>;
  start(): Promise<void>;
  /** Ends it and removes its files. */
  stop(): Promise<void>;
}

/**
 * Copies a running cluster of Postgres 15 by pg_basebackup and starts the copy as a hot standby. The primary keeps 256 MB of WAL for it;
 * start the primary with `wal_level: "replica"` (the default) and `hot_standby: "on"` (the default).
 */
export async function startStandby(primary: TestServer): Promise<Standby> {
  const account = await serverAccount();
  const folder = await mkdtemp(
    join(await placeOfClusters(), `millrace-test-${process.pid}-standby-`),
  );
  // As in the folders of other test servers, so that what a killed run leaves is found and removed.
  const data = join(folder, "data", "cluster");
  const port = await freePort();
  const applicationName = `standby_${port}`;
  const source = new URL(primary.superUrl);
  const own = new URL(primary.superUrl);
  own.port = String(port);
  const run = async (program: string, args: readonly string[]): Promise<void> => {
    const { code, output } = await runProgram(join(DEBIAN_15, program), args, { account });
    if (code !== 0) throw new Error(`${program}: ${output.trim()}`);
  };
  const start = (): Promise<void> =>
    run("pg_ctl", [
      "start",
      "--wait",
      "-D",
      data,
      "-l",
      join(folder, "server.log"),
      "-o",
      `-p ${port} -c primary_conninfo='host=127.0.0.1 port=${source.port} user=${source.username} password=${source.password} application_name=${applicationName}' -c fsync=off -c wal_receiver_status_interval=1s -c wal_retrieve_retry_interval=200ms`,
    ]);
  const halt = async (mode: "fast" | "immediate" = "fast"): Promise<void> => {
    const { code } = await runProgram(join(DEBIAN_15, "pg_ctl"), ["status", "-D", data], {
      account,
    });
    if (code === 0) await run("pg_ctl", ["stop", "--wait", `--mode=${mode}`, "-D", data]);
  };
  const stop = async (): Promise<void> => {
    await halt("immediate");
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    await mkdir(data, { recursive: true, mode: 0o700 });
    for (const owned of [folder, join(folder, "data"), data]) {
      await chmod(owned, 0o700);
      if (account) await chown(owned, account.uid, account.gid);
    }
    await allowReplication(primary);
    await run("pg_basebackup", [
      "-D",
      data,
      "-d",
      `host=127.0.0.1 port=${source.port} user=${source.username} password=${source.password}`,
      "--checkpoint=fast",
      "--wal-method=stream",
      "--no-sync",
      "--write-recovery-conf",
    ]);
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    major: primary.major,
    version: primary.version,
    superUrl: own.href,
    applicationName,
    async promote() {
      await run("pg_ctl", ["promote", "--wait", "-D", data]);
      await asSuperuser(own.href, (sql) =>
        eventually(async () => {
          const [row] = await sql`select pg_is_in_recovery() as is_standby`;
          return row?.["is_standby"] === false;
        }),
      );
    },
    async caughtUp() {
      const written = await asSuperuser(primary.superUrl, async (sql) => {
        const [row] = await sql`select pg_current_wal_flush_lsn()::text as lsn`;
        return String(row?.["lsn"]);
      });
      await asSuperuser(own.href, (sql) =>
        eventually(async () => {
          const [row] =
            await sql`select pg_last_wal_replay_lsn() >= ${written}::pg_lsn as is_there`;
          return row?.["is_there"] === true;
        }),
      );
    },
    halt,
    start,
    stop,
  };
}

async function allowReplication(primary: TestServer): Promise<void> {
  await asSuperuser(primary.superUrl, async (sql) => {
    await sql.unsafe("alter system set wal_keep_size = '256MB'");
    await sql`select pg_reload_conf()`;
  });
}

async function asSuperuser<T>(url: string, work: (sql: TestSql) => Promise<T>): Promise<T> {
  const sql = connect(url, { max: 1 });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}
