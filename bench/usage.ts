// What some work cost: CPU of the database and of the peer's processes, bytes in the log, memory.

import type { PeerProcess } from "./peer-process.ts";
import type { Stage } from "./stage.ts";

export interface Usage {
  /** CPU seconds of the database per 1,000 jobs. */
  readonly databaseCpu: number;
  /** CPU seconds of the peer's measured processes per 1,000 jobs. */
  readonly peerCpu: number;
  readonly logBytesPerJob: number;
  /** The most memory that one of those processes ever had. */
  readonly peakMb: number;
}

/** Begins to measure; the answered function ends it and says what each of `jobs` jobs cost. */
export async function measureUsage(
  { store }: Stage,
  processes: readonly PeerProcess[],
): Promise<(jobs: number) => Promise<Usage>> {
  const cpu = (): number => processes.reduce((sum, one) => sum + one.cpuSeconds(), 0);
  const logBefore = await store.logBytes();
  const databaseBefore = store.cpuSeconds();
  const cpuBefore = cpu();
  return async (jobs) => ({
    peerCpu: ((cpu() - cpuBefore) / jobs) * 1000,
    databaseCpu: ((store.cpuSeconds() - databaseBefore) / jobs) * 1000,
    logBytesPerJob: ((await store.logBytes()) - logBefore) / jobs,
    peakMb: Math.max(...processes.map((one) => one.memoryMb("VmHWM"))),
  });
}
