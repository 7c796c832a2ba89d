// What the figures were measured on and with.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { settings } from "./postgres.ts";
import { redisSettings } from "./redis.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  /** Of the processes of all peers. */
  readonly node: string;
  readonly stores: readonly string[];
  readonly settings: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Versions of the packages, as pinned. */
  readonly packages: Readonly<Record<string, string>>;
}

export function describeMachine(stores: readonly string[]): Machine {
  const node = fileURLToPath(new URL("./node_modules/.bin/node", import.meta.url));
  const manifest = JSON.parse(readFileSync(new URL("./package.json", import.meta.url), "utf8")) as {
    readonly dependencies: Readonly<Record<string, string>>;
  };
  return {
    cpu: cpus()[0]?.model ?? "?",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: execFileSync(node, ["--version"], { encoding: "utf8" }).trim(),
    stores,
    settings: { postgres: settings, redis: redisSettings },
    packages: manifest.dependencies,
  };
}
