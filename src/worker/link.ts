import { type Backoff, backoffDelay } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import { deadline, pause } from "../core/signals.ts";
import { isTransient } from "../db/sqlstate.ts";
import type { Events } from "./events.ts";

/** How long a worker waits between tries while the database is away. */
const RECONNECT: Backoff = { baseMs: 50, capMs: 2_000, jitter: 0.5 };

export interface LinkOptions {
  readonly clock: Clock;
  readonly events: Events;
  readonly random: () => number;
  /** After this long without an answer a call counts as lost. */
  readonly callTimeoutMs: number;
  /** Called when the database answers again. */
  readonly onBack: () => void;
}

/** The worker's tie to its database: one backoff for all of its loops, and one line in the log for one outage. */
export class Link {
  readonly #options: LinkOptions;
  #failures = 0;
  #downSince = 0;
  #retryAt = 0;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  get isDown(): boolean {
    return this.#failures > 0;
  }

  /** Waits while the database is away. */
  async ready(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (this.isDown && !signal.aborted) {
      const wait = this.#retryAt - clock.now();
      if (wait <= 0) return;
      await pause(wait, signal, clock);
    }
  }

  /**
   * Makes one call. Rejects as the call does; if the database is at fault, everybody who asks `ready` then waits.
   */
  async call<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, callTimeoutMs } = this.#options;
    const patience = deadline(
      callTimeoutMs,
      () => new CallTimeout(callTimeoutMs),
      undefined,
      clock,
    );
    try {
      const answer = await run(patience.signal);
      this.#worked();
      return answer;
    } catch (error) {
      if (isOutage(error)) this.#failed(error);
      throw error;
    } finally {
      patience.release();
    }
  }

  #worked(): void {
    if (this.#failures === 0) return;
    const { clock, events, onBack } = this.#options;
    this.#failures = 0;
    events.emit({ kind: "reconnected", downMs: Math.round(clock.now() - this.#downSince) });
    onBack();
  }

  #failed(error: unknown): void {
    const { clock, events, random } = this.#options;
    const now = clock.now();
    // Calls that failed side by side are one failure.
    if (this.isDown && now < this.#retryAt) return;
    if (!this.isDown) {
      this.#downSince = now;
      events.emit({ kind: "disconnected", error });
    }
    this.#retryAt = now + backoffDelay(RECONNECT, this.#failures, random());
    this.#failures += 1;
  }
}

class CallTimeout extends Error {
  override readonly name = "CallTimeout";

  constructor(ms: number) {
    super(`The database did not answer within ${ms} ms`);
  }
}

/** Whether waiting may help. Everything else is about the call itself. */
export function isOutage(error: unknown): boolean {
  return error instanceof CallTimeout || isTransient(error);
}
