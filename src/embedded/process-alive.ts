import { readFileSync } from "node:fs";

/** True when a process with this id runs, whoever owns it; one that only waits to be reaped does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EPERM")) return false;
  }
  const state = linuxStat(pid)?.state;
  return state !== "Z" && state !== "X";
}

/**
 * True unless the process certainly is no Postgres: process ids are given out anew after a reboot,
 * and Postgres itself would then refuse to start for ever. Only Linux tells us cheaply.
 */
export function mayBePostgres(pid: number): boolean {
  if (!isAlive(pid)) return false;
  const name = linuxStat(pid)?.name;
  return name === undefined || name.startsWith("postgres");
}

function linuxStat(pid: number): { name: string; state: string } | undefined {
  if (process.platform !== "linux") return undefined;
  try {
    // "4073 (postgres) S 1 …": the name itself may hold spaces and parentheses.
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const end = text.lastIndexOf(")");
    return { name: text.slice(text.indexOf("(") + 1, end), state: text.charAt(end + 2) };
  } catch {
    return undefined;
  }
}
