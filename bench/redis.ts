// The Redis of the peers that live there: on a free loopback port, in a folder of its own, with every write on disk before
// it is confirmed, as in Postgres. Needs `redis-server` and `redis-cli` on PATH.

import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { freePort } from "../src/embedded/free-port.ts";
import { cpuSeconds } from "./proc.ts";
import type { Store } from "./store.ts";

const run = promisify(execFile);

/** Settings that differ from Redis' defaults. */
export const redisSettings: Readonly<Record<string, string>> = {
  appendonly: "yes",
  appendfsync: "always",
  save: "",
  // A rewrite would make the file, and with it the bytes per job, smaller.
  "auto-aof-rewrite-percentage": "0",
  "maxmemory-policy": "noeviction",
};

export async function startRedis(): Promise<Store> {
  const dir = await mkdtemp(join(tmpdir(), "millrace-bench-redis-"));
  const port = await freePort();
  const flags = Object.entries(redisSettings).flatMap(([name, value]) => [`--${name}`, value]);
  const server = spawn(
    "redis-server",
    ["--bind", "127.0.0.1", "--port", String(port), "--dir", dir, ...flags],
    { stdio: "ignore" },
  );
  const failure = new Promise<never>((_resolve, reject) => {
    server.once("error", (cause) =>
      reject(new Error("redis-server does not start; Debian has it as redis-server", { cause })),
    );
    server.once("exit", (code) => reject(new Error(`redis-server ended with exit code ${code}`)));
  });
  // It ends in any case, and then nobody may be waiting.
  failure.catch(() => undefined);
  const cli = async (...words: string[]): Promise<string> =>
    (await run("redis-cli", ["-p", String(port), ...words])).stdout;
  const info = async (name: string): Promise<string> =>
    new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(await cli("info"))?.[1] ?? "";
  await Promise.race([failure, answers(cli)]);
  return {
    version: `Redis ${await info("redis_version")}`,
    async fresh() {
      await cli("flushall");
      return `redis://127.0.0.1:${port}/0`;
    },
    async drop() {
      await cli("flushall");
    },
    look: async () => [],
    holdSnapshot: () => Promise.reject(new Error("Redis has no snapshots")),
    cpuSeconds: () => cpuSeconds(server.pid),
    logBytes: async () => Number(await info("aof_current_size")),
    async stop() {
      const ended = new Promise((resolve) => server.once("exit", resolve));
      server.kill();
      await ended;
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function answers(cli: (word: string) => Promise<string>): Promise<void> {
  for (;;) {
    const answer = await cli("ping").catch(() => "");
    if (answer.trim() === "PONG") return;
    await sleep(20);
  }
}
