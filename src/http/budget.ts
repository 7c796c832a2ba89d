import type { Clock } from "../core/clock.ts";

/** What this isolate has used so far; what can't be told is left out. */
export interface Usage {
  /** Of the processor, since the isolate began. @default an estimate by the number of jobs */
  readonly cpuMs?: number;
  readonly memoryBytes?: number;
}

/**
 * What a job costs its isolate where nobody can tell: sending one to a function took 0.48 ms of a 2.5 GHz core under Deno 2.9, running one
 * here 0.02 ms beside what its handler does (`npm run bench:edge`).
 */
const CPU_MS_PER_JOB = 0.5;

export interface BudgetOptions {
  readonly clock: Clock;
  /** When the isolate began, by the clock: its life counts from there and not from a request. */
  readonly bornAt: number;
  /** How long the platform lets an isolate live. */
  readonly lifeMs: number;
  /** The most processor time of one run; Infinity: no limit. */
  readonly mostCpuMs: number;
  readonly mostMemoryBytes: number;
  readonly usage: () => Usage;
}

/** An isolate that has lived for less is as good as new. */
const EARLY = 0.1;
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
  #jobs = 0;

  constructor(options: BudgetOptions) {
    this.#options = options;
    this.#cpuAtStart = options.usage().cpuMs ?? 0;
  }

  /** So many jobs more were claimed. */
  claimed(count: number): void {
    this.#jobs += count;
  }

  /** Milliseconds until what still runs is given back. */
  get leftMs(): number {
    const { clock, bornAt, lifeMs } = this.#options;
    return Math.max(0, bornAt + lifeMs * LAST_END - clock.now());
  }

  /** So much of the life is over that no job is begun any more. */
  get isOld(): boolean {
    const { clock, bornAt, lifeMs } = this.#options;
    return clock.now() > bornAt + lifeMs * LAST_BEGIN;
  }

  /** Whether a job that usually takes so long should still be begun. */
  fits(usualMs: number): boolean {
    const { clock, bornAt, lifeMs, mostCpuMs, mostMemoryBytes, usage } = this.#options;
    // What takes longer than a life is begun in a new isolate only: there it has the best chance.
    const isEarly = clock.now() <= bornAt + lifeMs * EARLY;
    if (this.isOld || (usualMs > this.leftMs && !isEarly)) return false;
    const { cpuMs, memoryBytes = 0 } = usage();
    const used = cpuMs === undefined ? this.#jobs * CPU_MS_PER_JOB : cpuMs - this.#cpuAtStart;
    return used <= mostCpuMs * LAST_USE && memoryBytes <= mostMemoryBytes * LAST_USE;
  }
}
