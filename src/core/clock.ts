/** Local time, for durations only: what is stored or compared between machines comes from the database. */
export interface Clock {
  /** Milliseconds on a clock that never jumps. Its zero means nothing. */
  now(): number;
  /** Calls back once after `ms`; the answer cancels it. One in the background keeps no process alive. */
  setTimer(callback: () => void, ms: number, isBackground?: boolean): () => void;
}

/** Longer delays overflow the runtimes' timers and would fire at once. */
const LONGEST_TIMER_MS = 2_147_483_647;

export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer(callback, ms, isBackground = false) {
    const timer = setTimeout(callback, Math.min(Math.max(ms, 0), LONGEST_TIMER_MS));
    if (isBackground) unref(timer);
    return () => clearTimeout(timer);
  },
};

/** Node and Bun answer an object that can be told so; Deno a number. Elsewhere no process is kept alive. */
function unref(timer: unknown): void {
  if (typeof timer === "object") (timer as { unref?: () => void }).unref?.();
  else (globalThis as { Deno?: { unrefTimer?: (id: unknown) => void } }).Deno?.unrefTimer?.(timer);
}
