import { type Backoff, backoffDelay } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import { pause, setDeadline } from "../core/signals.ts";
import { isStatementFault, isTransient } from "../db/sqlstate.ts";
import type { Events } from "./events.ts";

/** How long a worker waits between tries while the database is away. */
const RECONNECT: Backoff = { baseMs: 50, capMs: 2_000, jitter: 0.5 };

export interface LinkOptions {
  readonly clock: Clock;
  readonly events: Events;
  readonly random: () => number;
  /** After this long without an answer a call counts as lost. */
  readonly callTimeoutMs: number;
  /** The worker's end: calls under way are given up. */
  readonly signal: AbortSignal;
  /** The first call after an outage. */
  readonly greet: (signal: AbortSignal) => Promise<unknown>;
  /** Called when the database answers again. */
  readonly onBack: () => void;
}

/** The worker's tie to its database: during an outage all of its loops wait for one that tries. */
export class Link {
  readonly #options: LinkOptions;
  readonly #underWay = new Set<AbortController>();
  #lastError: unknown;
  #downAt = Infinity;
  #recovery: Promise<void> | undefined;
  /** Failed tries since the last claim that worked: a database that greets and then fails is still away. */
  #failures = 0;

  readonly #giveUp = (): void => {
    for (const call of this.#underWay) call.abort(this.#options.signal.reason);
  };

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  get isDown(): boolean {
    return this.#lastError !== undefined;
  }

  /** Whether the database has been away since before that local time. */
  wasDownBefore(at: number): boolean {
    return this.isDown && this.#downAt < at;
  }

  /** Waits while the database is away. */
  async ready(signal: AbortSignal): Promise<void> {
    if (!this.isDown) return;
    this.#recovery ??= this.#recover(signal).finally(() => {
      this.#recovery = undefined;
    });
    await this.#recovery;
  }

  /** Makes a call that may claim jobs. */
  async claim<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const answer = await this.call(run);
    this.#failures = 0;
    return answer;
  }

  /** Makes one call. Rejects as the call does; if the database is at fault, whoever asks `ready` then waits. */
  async call<T>(
    run: (signal: AbortSignal) => Promise<T>,
    timeoutMs: number = this.#options.callTimeoutMs,
  ): Promise<T> {
    try {
      return await this.#withPatience(run, timeoutMs);
    } catch (error) {
      if (isOutage(error) && !this.isDown) {
        this.#lastError = error;
        this.#downAt = this.#options.clock.now();
        this.#options.events.emit({ kind: "disconnected", error });
      }
      throw error;
    }
  }

  async #recover(signal: AbortSignal): Promise<void> {
    const { clock, events, random, greet, onBack } = this.#options;
    const since = clock.now();
    while (!signal.aborted) {
      await pause(backoffDelay(RECONNECT, this.#failures, random()), signal, clock);
      this.#failures += 1;
      try {
        await this.#withPatience(greet, this.#options.callTimeoutMs);
      } catch (error) {
        if (isOutage(error) || signal.aborted) continue;
        // It answers, if only to complain: the loops will find out what about.
      }
      this.#lastError = undefined;
      events.emit({ kind: "reconnected", downMs: Math.round(clock.now() - since) });
      onBack();
      return;
    }
  }

  async #withPatience<T>(run: (signal: AbortSignal) => Promise<T>, ms: number): Promise<T> {
    const { clock, signal } = this.#options;
    const patience = new AbortController();
    if (signal.aborted) patience.abort(signal.reason);
    const cancel = setDeadline(() => patience.abort(new CallTimeout(ms)), ms, clock);
    // One listener for all calls: there may be more at a time than a signal should have.
    if (this.#underWay.size === 0) signal.addEventListener("abort", this.#giveUp);
    this.#underWay.add(patience);
    try {
      return await run(patience.signal);
    } finally {
      cancel();
      this.#underWay.delete(patience);
      if (this.#underWay.size === 0) signal.removeEventListener("abort", this.#giveUp);
    }
  }
}

class CallTimeout extends Error {
  override readonly name = "CallTimeout";

  constructor(ms: number) {
    super(`The database did not answer within ${ms} ms`);
  }
}

/** Whether the database is away, so that waiting may help. Everything else is about the call itself. */
export function isOutage(error: unknown): boolean {
  return error instanceof CallTimeout || (isTransient(error) && !isStatementFault(error));
}
