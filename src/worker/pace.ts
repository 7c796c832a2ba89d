/** Runs count for about so long: what handlers took before says nothing of what they take now. */
const WINDOW_MS = 500;

/** How long handlers take now: the average of the runs that ended within the last half second, or of the last ones there were. */
export class Pace {
  /** The two halves of the window, the newer first. */
  #newMs = 0;
  #newCount = 0;
  #oldMs = 0;
  #oldCount = 0;
  #halfSince = 0;
  #last: number | undefined;

  /** A run ended at this local time after so many milliseconds. Called for every job. */
  ended(now: number, ms: number): void {
    if (now - this.#halfSince >= WINDOW_MS / 2) this.#turn(now);
    this.#newMs += ms;
    this.#newCount += 1;
  }

  /** `running` handlers have been at work for `agesMs` at least. Undefined while nothing is known. */
  msPerRun(now: number, running: number, agesMs: number): number | undefined {
    if (now - this.#halfSince >= WINDOW_MS / 2) this.#turn(now);
    const count = this.#newCount + this.#oldCount;
    const ms = this.#newMs + this.#oldMs;
    if (count > 0) this.#last = ms / count;
    // Those that run now take longer than what ended.
    if (running > 0 && this.#last !== undefined && agesMs > this.#last) {
      return (ms + running * agesMs) / (count + running);
    }
    return this.#last;
  }

  #turn(now: number): void {
    const isStale = now - this.#halfSince >= WINDOW_MS;
    if (this.#newCount > 0) this.#last = this.#newMs / this.#newCount;
    this.#oldMs = isStale ? 0 : this.#newMs;
    this.#oldCount = isStale ? 0 : this.#newCount;
    this.#newMs = 0;
    this.#newCount = 0;
    this.#halfSince = now;
  }
}
