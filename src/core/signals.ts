import { type Clock, systemClock } from "./clock.ts";

/** Waits `ms`, or until the signal aborts: then it rejects with the signal's reason. */
export function sleep(ms: number, signal?: AbortSignal, clock: Clock = systemClock): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const cancel = clock.setTimer(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    function onAbort(): void {
      cancel();
      reject(signal?.reason);
    }
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** Waits `ms`, or less if the signal aborts. Never rejects. */
export function pause(ms: number, signal: AbortSignal, clock: Clock = systemClock): Promise<void> {
  return sleep(ms, signal, clock).catch(() => undefined);
}

/** A signal together with the means to let go of what it listens to. */
export interface LinkedSignal {
  readonly signal: AbortSignal;
  /** Stops listening and clears the timer. Calling it twice is fine. */
  release(): void;
}

/** Aborts as soon as one of the signals does, with that one's reason. */
export function anySignal(signals: readonly (AbortSignal | undefined)[]): LinkedSignal {
  const controller = new AbortController();
  const undo: (() => void)[] = [];
  for (const signal of signals) {
    if (!signal) continue;
    if (signal.aborted) {
      controller.abort(signal.reason);
      break;
    }
    const onAbort = (): void => controller.abort(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    undo.push(() => signal.removeEventListener("abort", onAbort));
  }
  return { signal: controller.signal, release: () => undo.splice(0).forEach((f) => void f()) };
}

/** A timer that comes so much too late says that this process was busy, or asleep. */
const LATE_MS = 100;
/** Then what it waits for may have come long ago, and is looked at first. */
const LATE_GRACE_MS = 100;

/** Calls back after `ms`; a moment later if this process was blocked when the time ran out. The answer cancels it. */
export function setDeadline(
  callback: () => void,
  ms: number,
  clock: Clock,
  isBackground = false,
): () => void {
  const dueAt = clock.now() + ms;
  const onTime = (): void => {
    if (clock.now() - dueAt < LATE_MS) callback();
    else cancel = clock.setTimer(callback, LATE_GRACE_MS, isBackground);
  };
  let cancel = clock.setTimer(onTime, ms, isBackground);
  return () => cancel();
}

/**
 * Aborts after `ms` with the reason that `reason` makes, or when `parent` aborts. If the process was blocked when the time ran out, a
 * moment later: an answer that has come meanwhile is heard first.
 */
export function deadline(
  ms: number,
  reason: () => unknown,
  parent?: AbortSignal,
  clock: Clock = systemClock,
): LinkedSignal {
  const controller = new AbortController();
  const cancel = setDeadline(() => controller.abort(reason()), ms, clock);
  const linked = anySignal([controller.signal, parent]);
  return {
    signal: linked.signal,
    release() {
      cancel();
      linked.release();
    },
  };
}

/** Settles as the promise does, or rejects with the signal's reason, whichever comes first. */
export function raceSignal<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort);
    const forget = (): void => signal.removeEventListener("abort", onAbort);
    promise.then(
      (value) => {
        forget();
        resolve(value);
      },
      (error: unknown) => {
        forget();
        reject(error);
      },
    );
  });
}

/** Resolves when the signal aborts. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/**
 * An end that many wait for. Each asks for a signal of its own: runtimes warn of a leak when more than ten listen to one.
 */
export class Ending {
  readonly #controllers = new Set<AbortController>();
  #reason: unknown;
  #isOver = false;

  /** A new signal, which aborts when it is over; aborted already if it is. */
  get signal(): AbortSignal {
    const controller = new AbortController();
    if (this.#isOver) controller.abort(this.#reason);
    else this.#controllers.add(controller);
    return controller.signal;
  }

  abort(reason?: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reason = reason;
    for (const controller of this.#controllers) controller.abort(reason);
    this.#controllers.clear();
  }
}
