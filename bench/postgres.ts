// The Postgres that all peers share: one server, settings named in the report, a fresh database for each cell.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { startLocalPostgres } from "../src/embedded/start-local-postgres.ts";

/** The server's settings; everything else is Postgres' default. Synchronous commit and fsync are on. */
export const settings: Readonly<Record<string, string>> = {
  shared_buffers: "1GB",
  max_wal_size: "4GB",
  max_connections: "100",
  synchronous_commit: "on",
  jit: "on",
};

export interface BenchServer {
  readonly version: string;
  freshDatabase(name: string): Promise<string>;
  /** Rows of a query, for checks. */
  look(url: string, text: string): Promise<readonly Record<string, unknown>[]>;
  walBytes(): Promise<number>;
  stop(): Promise<void>;
}

export async function startBenchServer(binaries: "system" | "embedded"): Promise<BenchServer> {
  const dataDir = await mkdtemp(join(tmpdir(), "millrace-bench-"));
  const server = await startLocalPostgres({ dataDir, binaries, fsync: true, settings });
  const admin = postgres(server.url, { max: 1, onnotice: () => undefined });
  return {
    version: server.version,
    async freshDatabase(name) {
      await admin.unsafe(`drop database if exists ${name} with (force)`);
      await admin.unsafe(`create database ${name}`);
      await admin.unsafe("checkpoint");
      const url = new URL(server.url);
      url.pathname = `/${name}`;
      return url.href;
    },
    async look(url, text) {
      const sql = postgres(url, { max: 1 });
      try {
        return await sql.unsafe(text);
      } finally {
        await sql.end();
      }
    },
    async walBytes() {
      const [row] = await admin`select (pg_current_wal_lsn() - '0/0'::pg_lsn)::text as bytes`;
      return Number(row?.["bytes"]);
    },
    async stop() {
      await admin.end();
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
