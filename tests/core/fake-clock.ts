import type { Clock } from "../../src/core/clock.ts";

export interface FakeClock extends Clock {
  /** Moves the time on; timers that fall due are called in their order. */
  advance(ms: number): void;
  /** How many timers are set. */
  readonly timers: number;
  /** How long each timer was set for, the ended ones too. */
  readonly waits: readonly number[];
}

/** A clock that stands still until it is moved. */
export function fakeClock(): FakeClock {
  let now = 0;
  const timers = new Set<{ at: number; callback: () => void }>();
  const waits: number[] = [];
  return {
    waits,
    now: () => now,
    setTimer(callback, ms) {
      waits.push(ms);
      const timer = { at: now + ms, callback };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    advance(ms) {
      const end = now + ms;
      for (;;) {
        const [next] = [...timers].filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at);
        if (!next) break;
        timers.delete(next);
        now = next.at;
        next.callback();
      }
      now = end;
    },
    get timers() {
      return timers.size;
    },
  };
}
