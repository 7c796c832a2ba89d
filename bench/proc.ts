// What Linux tells of processes. Elsewhere all of it is NaN, and the tables show a dash.

import { readdirSync, readFileSync } from "node:fs";

const TICKS_PER_SECOND = 100;

interface Stat {
  readonly parent: number;
  /** Of the process alone. */
  readonly own: number;
  /** Of its children that have ended. */
  readonly ended: number;
}

function stat(pid: number | string): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text
      .slice(text.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number);
    const at = (index: number): number => fields[index] ?? Number.NaN;
    return {
      parent: at(1),
      own: (at(11) + at(12)) / TICKS_PER_SECOND,
      ended: (at(13) + at(14)) / TICKS_PER_SECOND,
    };
  } catch {
    return undefined;
  }
}

/** User and system seconds of a process so far. */
export function cpuSeconds(pid: number | undefined): number {
  return stat(pid ?? "none")?.own ?? Number.NaN;
}

/** The same of a process with all children it ever had; it never falls, as those that end are counted in their parent. */
export function treeCpuSeconds(root: number): number {
  const top = stat(root);
  if (top === undefined) return Number.NaN;
  let sum = top.own + top.ended;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const child = stat(pid);
    if (child?.parent === root) sum += child.own;
  }
  return sum;
}

/** Memory of a process in MB: `VmHWM` is the most it ever had, `VmRSS` what it has now. */
export function memoryMb(pid: number | undefined, what: "VmHWM" | "VmRSS"): number {
  try {
    const text = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(new RegExp(`^${what}:\\s+(\\d+)`, "m").exec(text)?.[1]) / 1024;
  } catch {
    return Number.NaN;
  }
}
