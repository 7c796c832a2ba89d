import { type Clock, systemClock } from "../../src/core/clock.ts";

/** The clock of an isolate that has lived for so long when it is asked for the second time. */
export function clockAt(ageMs: number): Clock {
  let isBorn = false;
  return {
    ...systemClock,
    now() {
      const now = performance.now() + (isBorn ? ageMs : 0);
      isBorn = true;
      return now;
    },
  };
}
