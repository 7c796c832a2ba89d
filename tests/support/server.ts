import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { findPostmaster } from "../../src/embedded/postmaster-file.ts";
import { isAlive } from "../../src/embedded/process-alive.ts";
import { startLocalPostgres } from "../../src/embedded/start-local-postgres.ts";
import { DEBIAN_15 } from "./majors.ts";
import { PLACES, placeOfClusters } from "./places.ts";
import { prepareCluster, SUPERUSER } from "./prepare-cluster.ts";

/** A prepared cluster; plain data, so that it can be handed to another process. */
export interface TestServer {
  readonly major: number;
  readonly version: string;
  /** URL of the superuser, to database `postgres`. */
  readonly superUrl: string;
}

/** A cluster that this process started and must stop. */
export interface OwnServer extends TestServer {
  /** Stops it as a crash would and starts it again on the same port; recovery included. */
  crashAndRestart(): Promise<void>;
  /** Stops it and removes its files. Twice is fine. */
  stop(): Promise<void>;
}

const FOLDER = /^millrace-test-(\d+)-/;

/**
 * Starts a throw-away cluster with roles and template. Tests that crash or reconfigure the server
 * start their own; all others share the one of their run.
 */
export async function startTestServer(
  major: number,
  settings: Readonly<Record<string, string | number | boolean>> = {},
): Promise<OwnServer> {
  const folder = await mkdtemp(join(await placeOfClusters(), `millrace-test-${process.pid}-`));
  await chmod(folder, 0o711);
  const base = {
    dataDir: join(folder, "data"),
    binaries: major === 15 ? DEBIAN_15 : "embedded",
    superuser: SUPERUSER,
    fsync: false,
    settings: { max_connections: 200, ...settings },
  };
  try {
    let server = await startLocalPostgres(base);
    const stop = async (): Promise<void> => {
      await server.stop("immediate");
      await rm(folder, { recursive: true, force: true });
    };
    try {
      await prepareCluster(server.url);
    } catch (error) {
      await stop();
      throw error;
    }
    return {
      major,
      version: server.version,
      superUrl: server.url,
      async crashAndRestart() {
        await server.stop("immediate");
        server = await startLocalPostgres({ ...base, port: server.port });
      },
      stop,
    };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** Ends servers and removes folders of earlier test runs that were killed. */
export async function removeLeftovers(): Promise<void> {
  const folders = await Promise.all(
    PLACES.map(async (place) =>
      (await readdir(place).catch(() => [])).map((name) => join(place, name)),
    ),
  );
  for (const folder of folders.flat()) {
    const owner = FOLDER.exec(basename(folder))?.[1];
    if (owner === undefined || isAlive(Number(owner))) continue;
    const postmaster = await findPostmaster(join(folder, "data", "cluster")).catch(() => undefined);
    try {
      if (postmaster) process.kill(postmaster.pid, "SIGQUIT");
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    } catch {
      // It belongs to another account; that one will remove it.
    }
  }
}
