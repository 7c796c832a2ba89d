import type { Clock } from "../core/clock.ts";

/** A timer that comes so much too late says that this process was blocked. Then a handler may have its answer, and only not read it. */
const LATE_MS = 100;
const LATE_GRACE_MS = 100;

/** Something that may take only so long. */
export interface Timed {
  readonly deadlineAt: number;
  /** Its time is over. It was taken off the list before. */
  expire(): void;
}

/**
 * The time limits of all running handlers on one timer. What runs is little (as much as there are slots), so looking through all of it
 * when the timer fires is cheaper than a timer for each.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #timed = new Set<Timed>();
  #firesAt = Infinity;
  #cancel: (() => void) | undefined;
  /** The timer came late, and what is over gets a moment more. */
  #isWaiting = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(timed: Timed): void {
    this.#timed.add(timed);
    if (timed.deadlineAt < this.#firesAt) this.#arm(timed.deadlineAt);
  }

  /** The timer is left as it is: it finds nothing to do, and sets itself for what is next. */
  remove(timed: Timed): void {
    this.#timed.delete(timed);
  }

  stop(): void {
    this.#cancel?.();
    this.#timed.clear();
    this.#firesAt = Infinity;
  }

  #arm(at: number): void {
    this.#cancel?.();
    this.#firesAt = at;
    this.#cancel = this.#clock.setTimer(() => this.#sweep(), Math.max(0, at - this.#clock.now()));
  }

  #sweep(): void {
    const now = this.#clock.now();
    if (now - this.#firesAt >= LATE_MS && !this.#isWaiting) {
      this.#isWaiting = true;
      this.#arm(now + LATE_GRACE_MS);
      return;
    }
    this.#isWaiting = false;
    let next = Infinity;
    for (const timed of this.#timed) {
      if (timed.deadlineAt <= now) {
        this.#timed.delete(timed);
        timed.expire();
      } else {
        next = Math.min(next, timed.deadlineAt);
      }
    }
    this.#firesAt = Infinity;
    this.#cancel = undefined;
    if (next < Infinity) this.#arm(next);
  }
}
