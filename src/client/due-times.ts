import type { Clock } from "../core/clock.ts";
import { setDeadline } from "../core/signals.ts";

/** Timers may be early by so much. */
const EARLY_MS = 1;
/** Between two looks lies at least so much: thousands may be due one after the other. */
const LOOK_MS = 20;

/**
 * Calls back for each thing whose time runs out. One timer serves them all, and stays when nothing waits for it: setting one for each
 * costs more than most waits. It keeps no process alive; what is waited for does.
 */
export class DueTimes<T> {
  readonly #clock: Clock;
  readonly #onDue: (thing: T) => void;
  readonly #dueAt = new Map<T, number>();
  #armedFor = Number.POSITIVE_INFINITY;
  #cancel: (() => void) | undefined;

  constructor(clock: Clock, onDue: (thing: T) => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  add(thing: T, ms: number): void {
    const dueAt = this.#clock.now() + ms;
    this.#dueAt.set(thing, dueAt);
    if (dueAt < this.#armedFor) this.#arm(dueAt, 0);
  }

  delete(thing: T): void {
    this.#dueAt.delete(thing);
  }

  #arm(at: number, leastMs: number): void {
    this.#cancel?.();
    this.#armedFor = at;
    const ms = Math.max(leastMs, Math.ceil(at - this.#clock.now()));
    this.#cancel = setDeadline(() => this.#look(), ms, this.#clock, true);
  }

  #look(): void {
    this.#armedFor = Number.POSITIVE_INFINITY;
    const now = this.#clock.now() + EARLY_MS;
    const due: T[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const [thing, dueAt] of this.#dueAt) {
      if (dueAt <= now) due.push(thing);
      else if (dueAt < next) next = dueAt;
    }
    if (next < Number.POSITIVE_INFINITY) this.#arm(next, LOOK_MS);
    for (const thing of due) {
      this.#dueAt.delete(thing);
      this.#onDue(thing);
    }
  }
}
