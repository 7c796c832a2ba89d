import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { mayBePostgres } from "./process-alive.ts";

/** What a running server says of itself in `postmaster.pid`. */
export interface Postmaster {
  readonly pid: number;
  readonly port: number;
  readonly status: "starting" | "ready" | "stopping" | "standby" | "unknown";
}

/**
 * The live server of a cluster, or undefined. A file that a killed server left behind is removed,
 * because Postgres refuses to start when the id in it belongs to some other process by now.
 */
export async function findPostmaster(clusterDir: string): Promise<Postmaster | undefined> {
  const path = join(clusterDir, "postmaster.pid");
  const text = await readFile(path, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  // Lines: pid, data folder, start time, port, socket folder, listen address, shared memory, status.
  const lines = text.split("\n");
  const pid = Number(lines[0]);
  if (!(pid > 0)) return undefined;
  if (!mayBePostgres(pid)) {
    await rm(path, { force: true });
    return undefined;
  }
  return { pid, port: Number(lines[3] ?? 0), status: statusOf(lines[7]) };
}

function statusOf(line: string | undefined): Postmaster["status"] {
  const word = line?.trim();
  switch (word) {
    case "starting":
    case "ready":
    case "stopping":
    case "standby":
      return word;
    default:
      return "unknown";
  }
}
