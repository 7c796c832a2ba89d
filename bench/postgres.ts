// The Postgres that all peers share: one server, settings named in the report, a fresh database for each cell.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { startLocalPostgres } from "../src/embedded/start-local-postgres.ts";
import { treeCpuSeconds } from "./proc.ts";
import type { Store } from "./store.ts";

/** The server's settings; everything else is Postgres' default. Synchronous commit and fsync are on. */
export const settings: Readonly<Record<string, string>> = {
  shared_buffers: "1GB",
  max_wal_size: "4GB",
  max_connections: "250",
  synchronous_commit: "on",
  jit: "on",
};

export async function startPostgres(binaries: "system" | "embedded"): Promise<Store> {
  const dataDir = await mkdtemp(join(tmpdir(), "millrace-bench-"));
  const server = await startLocalPostgres({ dataDir, binaries, fsync: true, settings });
  const admin = postgres(server.url, { max: 1, onnotice: () => undefined });
  return {
    version: `PostgreSQL ${server.version}`,
    async fresh(name) {
      await admin.unsafe(`drop database if exists ${name} with (force)`);
      await admin.unsafe(`create database ${name}`);
      await admin.unsafe("checkpoint");
      const url = new URL(server.url);
      url.pathname = `/${name}`;
      return url.href;
    },
    async drop(url) {
      await admin.unsafe(`drop database if exists ${new URL(url).pathname.slice(1)} with (force)`);
    },
    async look(url, text) {
      const sql = postgres(url, { max: 1 });
      try {
        return await sql.unsafe(text);
      } finally {
        await sql.end();
      }
    },
    async holdSnapshot(url) {
      const sql = postgres(url, { max: 1 });
      const session = await sql.reserve();
      await session`begin isolation level repeatable read`;
      await session`select 1 from pg_class limit 1`;
      return async () => {
        session.release();
        await sql.end({ timeout: 1 });
      };
    },
    cpuSeconds: () => treeCpuSeconds(server.pid),
    async logBytes() {
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
