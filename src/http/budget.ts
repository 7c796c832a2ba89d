import type { Clock } from "../core/clock.ts";

/** What this isolate has used so far; what can't be told is left out. */
export interface Usage {
  /** Of the processor, since the isolate began. */
  readonly cpuMs?: number;
  readonly memoryBytes?: number;
}

export interface BudgetOptions {
  readonly clock: Clock;
  /** When the isolate began, by the clock: its life counts from there and not from a request. */
  readonly bornAt: number;
  /** How long the platform lets an isolate live. */
  readonly lifeMs: number;
  /** The most processor time of one run. */
  readonly mostCpuMs: number;
  readonly mostMemoryBytes: number;
  readonly usage: () => Usage;
}

/** No job is begun after so much of the isolate's life. */
const LAST_BEGIN = 0.8;
/** What still runs after so much of it is given back: then the platform is about to end the isolate. */
const LAST_END = 0.9;
/** The same of processor time and memory. */
const LAST_USE = 0.8;

/** What one run may spend of its isolate's life. */
export class Budget {
  readonly #options: BudgetOptions;
  readonly #cpuAtStart: number;

  constructor(options: BudgetOptions) {
    this.#options = options;
    this.#cpuAtStart = options.usage().cpuMs ?? 0;
  }

  /** Milliseconds until what still runs is given back. */
  get leftMs(): number {
    const { clock, bornAt, lifeMs } = this.#options;
    return Math.max(0, bornAt + lifeMs * LAST_END - clock.now());
  }

  /** Whether a job that usually takes so long should still be begun. */
  fits(usualMs: number): boolean {
    const { clock, bornAt, lifeMs, mostCpuMs, mostMemoryBytes, usage } = this.#options;
    if (clock.now() > bornAt + lifeMs * LAST_BEGIN || usualMs > this.leftMs) return false;
    const { cpuMs = 0, memoryBytes = 0 } = usage();
    return (
      cpuMs - this.#cpuAtStart <= mostCpuMs * LAST_USE && memoryBytes <= mostMemoryBytes * LAST_USE
    );
  }
}
