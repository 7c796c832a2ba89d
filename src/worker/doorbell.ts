import { backoffDelay } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import { hasCode } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import { pause } from "../core/signals.ts";
import { type Offer, readOffer } from "../db/claimed-jobs.ts";
import type { Sql } from "../db/sql.ts";

/**
 * The channel of all wake-ups: `w:<worker>` rings for a worker, `h:<worker>` too although another transaction holds its bell,
 * `c:<lease>:<job>` asks for a cancellation.
 */
const CHANNEL = "millrace";

const RETRY = { baseMs: 250, capMs: 30_000, jitter: 0.5 };
/** A bell may be lost with its connection; so it is armed anew now and then. */
const REARM_MS = 15_000;

export interface DoorbellParts {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly worker: () => number;
  readonly random: () => number;
  /**
   * Tells the database that we are about to sleep; jobs may be brought only where we are heard to listen. Begins with an offered
   * lease, if one is named, and answers whether that still held.
   */
  readonly arm: (isHeard: boolean, accept: string | null) => Promise<boolean>;
  readonly onArmed: () => void;
  readonly onRing: () => void;
  /** It was rung past a bell that is still there. */
  readonly onHeld: () => void;
  /** Where jobs come to us without our asking; undefined: nowhere. */
  readonly offerChannel: string | undefined;
  readonly onOffer: (offer: Offer) => void;
  readonly onCancel: (leaseId: string, jobId: string) => void;
}

/** Wakes an idle worker by LISTEN where that can be had. Where it can't, polling does the same, somewhat later. */
export class Doorbell {
  readonly #parts: DoorbellParts;
  #isListening = false;
  #armedAt = -Infinity;
  #rings = 0;
  #arming: Promise<boolean> | undefined;
  /** The last that we heard of the channels was what we expected. */
  #isHeard = false;

  constructor(parts: DoorbellParts) {
    this.#parts = parts;
  }

  get isListening(): boolean {
    return this.#isListening;
  }

  get isArmed(): boolean {
    return this.#isListening && this.#parts.clock.now() - this.#armedAt < REARM_MS;
  }

  /** Arms it, once for all who ask at the same time. */
  arm(): Promise<unknown> {
    this.#arming ??= this.#arm(null).finally(() => {
      this.#arming = undefined;
    });
    return this.#arming;
  }

  /** Arms it, and begins with an offered lease; false when that was lost. */
  accept(lease: string): Promise<boolean> {
    return this.#arm(lease);
  }

  async #arm(accept: string | null): Promise<boolean> {
    const rings = this.#rings;
    const isAlive = await this.#parts.arm(this.#isHeard, accept);
    // It may have rung before we heard that it was armed, and it rings once.
    if (this.#rings === rings) this.#armedAt = this.#parts.clock.now();
    this.#parts.onArmed();
    return isAlive;
  }

  /**
   * Work was found without a ring: the bells that are armed may not be those that matter, or we don't hear them. Then no job is
   * brought to us until something is heard.
   */
  disarm(): void {
    if (this.isArmed) this.#isHeard = false;
    this.#armedAt = -Infinity;
  }

  /** What is armed is not all that matters: it is armed anew before the next sleep. */
  readonly rearm = (): void => {
    this.#armedAt = -Infinity;
  };

  /** Listens until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { sql, clock, logger, random, offerChannel } = this.#parts;
    const channels = [CHANNEL, ...(offerChannel === undefined ? [] : [offerChannel])] as const;
    const onListening = (): void => {
      this.#isListening = true;
      this.#ring();
    };
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        const hear = (payload: string, channel: string): void => this.#hear(payload, channel);
        const listening = await sql.listen?.(channels, hear, { signal, onListening });
        await listening?.ended;
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (hasCode(error, "LISTEN_UNAVAILABLE")) {
          logger.info("listen.unavailable", { reason: error.message, hint: error.hint });
          return;
        }
        // Once aloud: polling goes on, and a wrong address would go unnoticed.
        logger[failures === 0 ? "warn" : "debug"]("listen.failed", { error });
        await pause(backoffDelay(RETRY, failures, random()), signal, clock);
      }
    }
  }

  #hear(payload: string, channel: string): void {
    // Anybody may notify on the common channel; the other one nobody else knows.
    const { offerChannel } = this.#parts;
    if (offerChannel !== undefined && channel === offerChannel) {
      const offer = readOffer(payload);
      this.#heard();
      if (offer) this.#parts.onOffer(offer);
      return;
    }
    const [kind, first = "", second = ""] = payload.split(":");
    const isOurs = first === String(this.#parts.worker());
    if (kind === "w" && isOurs) this.#ring();
    else if (kind === "h" && isOurs) {
      this.#ring();
      this.#parts.onHeld();
    } else if (kind === "c") this.#parts.onCancel(first, second);
  }

  /** A bell rings once; after that it has to be armed again. */
  #ring(): void {
    this.#heard();
    this.#parts.onRing();
  }

  #heard(): void {
    this.#rings += 1;
    this.#armedAt = -Infinity;
    this.#isHeard = true;
  }
}
