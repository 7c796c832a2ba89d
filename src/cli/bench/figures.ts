/** How long something took, over several times. */
export interface Spread {
  readonly samples: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** So many jobs in so long. */
export interface Rate {
  readonly jobs: number;
  readonly elapsedMs: number;
}

/** Everything that was measured. */
export interface Figures {
  readonly drain: Rate;
  readonly enqueueBulk: Rate;
  readonly enqueueOneByOne: Rate;
  /** From before the enqueue to the start of the handler, in milliseconds. */
  readonly latency: Spread;
  /** One statement that asks for nothing, in milliseconds. */
  readonly roundTrip: Spread;
}

/** The spread of measured values; of none it is NaN. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (percent: number): number => percentile(sorted, percent);
  return { samples: sorted.length, p50: at(50), p95: at(95), p99: at(99) };
}

/** With linear interpolation between neighbours. */
function percentile(sorted: readonly number[], percent: number): number {
  const position = (sorted.length - 1) * (percent / 100);
  const low = sorted[Math.floor(position)] ?? Number.NaN;
  const high = sorted[Math.ceil(position)] ?? Number.NaN;
  return low + (high - low) * (position - Math.floor(position));
}

export function perSecond({ jobs, elapsedMs }: Rate): number {
  return Math.round((jobs / elapsedMs) * 1_000);
}
