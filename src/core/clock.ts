/** Local time, for durations only: what is stored or compared between machines comes from the database. */
export interface Clock {
  /** Milliseconds on a clock that never jumps. Its zero means nothing. */
  now(): number;
  /** Calls back once after `ms`; the answer cancels it. */
  setTimer(callback: () => void, ms: number): () => void;
}

/** Longer delays overflow the runtimes' timers and would fire at once. */
const LONGEST_TIMER_MS = 2_147_483_647;

export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer(callback, ms) {
    const timer = setTimeout(callback, Math.min(Math.max(ms, 0), LONGEST_TIMER_MS));
    return () => clearTimeout(timer);
  },
};
