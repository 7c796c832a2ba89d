import { chmod, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  type LocalPostgres,
  type LocalPostgresOptions,
  startLocalPostgres,
} from "../../src/embedded/start-local-postgres.ts";
import { placeOfClusters } from "../support/places.ts";

/** A folder for local servers; whatever was started in it is stopped and removed in the end. */
export interface ServerFolder {
  readonly path: string;
  start(options?: Partial<LocalPostgresOptions>): Promise<LocalPostgres>;
  remove(): Promise<void>;
}

/** The name lets the test runner remove it, should this process be killed. */
export async function serverFolder(): Promise<ServerFolder> {
  const path = await mkdtemp(join(await placeOfClusters(), `millrace-test-${process.pid}-`));
  await chmod(path, 0o711);
  const started: LocalPostgres[] = [];
  return {
    path,
    async start(options = {}) {
      const server = await startLocalPostgres({
        dataDir: join(path, "data"),
        binaries: "embedded",
        fsync: false,
        ...options,
      });
      started.push(server);
      return server;
    },
    async remove() {
      for (const server of started) await server.stop("immediate");
      await rm(path, { recursive: true, force: true });
    },
  };
}
