import type { WorkerEvent } from "../worker/events.ts";

/** Why a run ended. `idle`: nothing was left. `budget`: time, processor or memory. `share`: every tenant had its share. `stopped`: told to. */
export type RunEnd = "idle" | "budget" | "share" | "stopped";

/** What a run did, job by attempt. */
export interface RunReport {
  readonly claimed: number;
  readonly completed: number;
  /** Failed, and to be tried again. */
  readonly retried: number;
  /** Failed for good: dead letters. */
  readonly failed: number;
  readonly snoozed: number;
  readonly cancelled: number;
  /** Given back without using up the attempt. */
  readonly released: number;
  /** Functions that answered 202 and tell the end later. */
  readonly handed_over: number;
  /** Leases that were lost: somebody else may have these jobs. */
  readonly lost: number;
  readonly duration_ms: number;
  /** Jobs are left that this run could have taken. */
  readonly remaining: boolean;
  readonly ended: RunEnd;
}

type Count = Exclude<keyof RunReport, "duration_ms" | "remaining" | "ended">;

/** Counts what a worker tells. */
export class RunTally {
  readonly #counts: Record<Count, number> = {
    claimed: 0,
    completed: 0,
    retried: 0,
    failed: 0,
    snoozed: 0,
    cancelled: 0,
    released: 0,
    handed_over: 0,
    lost: 0,
  };

  readonly listen = (event: WorkerEvent): void => {
    if (event.kind === "claimed") this.#counts.claimed += event.count;
    else if (event.kind === "discarded") this.#counts.failed += 1;
    else if (event.kind in this.#counts) this.#counts[event.kind as Count] += 1;
  };

  get claimed(): number {
    return this.#counts.claimed;
  }

  report(rest: Pick<RunReport, "duration_ms" | "remaining" | "ended">): RunReport {
    return { ...this.#counts, ...rest };
  }
}
