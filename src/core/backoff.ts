/** How a delay grows from one failure to the next. */
export interface Backoff {
  /** Delay after the first failure, before jitter. */
  readonly baseMs: number;
  /** The longest delay. */
  readonly capMs: number;
  /** How much of the delay is left to chance: 0 none, 0.5 between half and the whole, 1 between nothing and the whole. */
  readonly jitter: number;
}

/**
 * The delay before try number `failures` + 1: base * 2^failures, capped, less a random part.
 *
 * `random` is a number in [0, 1); it is an argument so that the function stays pure.
 */
export function backoffDelay(backoff: Backoff, failures: number, random: number): number {
  // 2^failures overflows to Infinity for large counts; the cap takes care of that too.
  const whole = Math.min(backoff.capMs, backoff.baseMs * 2 ** failures);
  return whole * (1 - backoff.jitter * random);
}
