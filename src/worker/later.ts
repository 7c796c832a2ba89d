import type { Attempt } from "./attempt.ts";
import type { RestEntry, SettlementBatch } from "./settlements.ts";

/** Ends that were not written for a reason of their own, and that are told again after a pause. */
export type Ends = Pick<SettlementBatch, "done" | "rest">;

interface Delayed extends Ends {
  readonly at: number;
}

export function countEnds({ done, rest }: Ends): number {
  return done.length + rest.length;
}

/** Ends that wait until they are worth another try: in company, or alone where they would harm the others of their call. */
export class Later {
  #busy: Delayed[] = [];
  #alone: Delayed[] = [];

  get size(): number {
    let size = 0;
    for (const ends of [...this.#busy, ...this.#alone]) size += countEnds(ends);
    return size;
  }

  /** The local time of the next try; Infinity for none. */
  get dueAt(): number {
    return Math.min(this.busyDueAt, this.#alone[0]?.at ?? Infinity);
  }

  /** The same without those that are told alone. */
  get busyDueAt(): number {
    return this.#busy[0]?.at ?? Infinity;
  }

  /** The pauses are always of the same length, so that each list is in the order of its times. */
  add(ends: Ends, at: number): void {
    this.#busy.push({ ...ends, at });
  }

  addAlone({ done, rest }: Ends, at: number): void {
    for (const attempt of done) this.#alone.push({ done: [attempt], rest: [], at });
    for (const entry of rest) this.#alone.push({ done: [], rest: [entry], at });
  }

  takeAlone(now: number): Ends | undefined {
    const [first] = this.#alone;
    return first && first.at <= now ? this.#alone.shift() : undefined;
  }

  takeDue(now: number): Ends {
    const done: Attempt[] = [];
    const rest: RestEntry[] = [];
    while (this.#busy[0] && this.#busy[0].at <= now) {
      const ends = this.#busy.shift() as Delayed;
      done.push(...ends.done);
      rest.push(...ends.rest);
    }
    return { done, rest };
  }
}
