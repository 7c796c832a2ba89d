import type { Clock } from "../core/clock.ts";

/** Lets one loop sleep until it is woken or its time has come. */
export class Wakeup {
  readonly #clock: Clock;
  #wake: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isAsleep(): boolean {
    return this.#wake !== undefined;
  }

  /** Sleeps for `ms`, or forever if that is Infinity, unless woken before. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = ms === Infinity ? undefined : this.#clock.setTimer(() => this.wake(), ms);
      this.#wake = () => {
        cancel?.();
        resolve();
      };
    });
  }

  /** Wakes the sleeper. Nobody is asleep: nothing happens, because a loop looks at the facts before it sleeps. */
  wake(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
