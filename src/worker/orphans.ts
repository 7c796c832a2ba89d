import { pause } from "../core/signals.ts";
import { forgetLeases, otherLeases } from "../db/worker-functions.ts";
import type { LeaseBook } from "./lease-book.ts";
import type { Link } from "./link.ts";
import type { WorkerSettings } from "./options.ts";
import { Wakeup } from "./wakeup.ts";

export interface OrphansParts {
  readonly settings: WorkerSettings;
  readonly worker: () => number;
  readonly link: Link;
  readonly book: LeaseBook;
}

/** A claim that was given up may be committed this much later; what comes later still runs out. */
const LATEST_COMMIT_MS = 300_000;

/**
 * Finds the leases of claims that this worker gave up. The server may have committed such a claim, or may still do so later: then
 * nobody begins its jobs. They are given back, with their attempts; no handler has seen them. Costs nothing while nothing is given up.
 */
export class Orphans {
  readonly #parts: OrphansParts;
  /** To be woken when the signal of `run` aborts. */
  readonly wakeup: Wakeup;
  /** Calls under way that may claim: a lease that nobody knows may be on its way to us. */
  readonly #calls = new Set<Promise<unknown>>();
  #until = -Infinity;

  constructor(parts: OrphansParts) {
    this.#parts = parts;
    this.wakeup = new Wakeup(parts.settings.clock);
  }

  /** To be told of every call that may claim; it must have entered into the book what it brought before it ends. */
  during(call: Promise<unknown>): void {
    this.#calls.add(call);
    const remove = (): void => void this.#calls.delete(call);
    call.then(remove, remove);
  }

  /** A call that may have claimed brought no answer. */
  gaveUp(): void {
    const { clock, leaseMs } = this.#parts.settings;
    this.#until = clock.now() + Math.max(LATEST_COMMIT_MS, leaseMs);
    this.wakeup.wake();
  }

  /** Whether there may be any. */
  get isLooking(): boolean {
    return this.#parts.settings.clock.now() < this.#until;
  }

  /** Looks at once after a claim was given up, and again and again for some time. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { settings, link } = this.#parts;
    const { clock, leaseMs, logger } = settings;
    while (!signal.aborted) {
      if (!this.isLooking) {
        await this.wakeup.sleep(Infinity);
        continue;
      }
      await link.ready(signal);
      try {
        if (!signal.aborted) await this.look();
      } catch (error) {
        logger.debug("worker.orphans_failed", { error });
      }
      await pause(leaseMs / 4, signal, clock);
    }
  }

  /** Gives back what is there now. Rejects when the database does not answer. */
  async look(): Promise<void> {
    const { settings, link, book, worker } = this.#parts;
    const { sql, logger } = settings;
    const known = book.known;
    const others = await link.call((signal) => otherLeases(sql, worker(), known, signal));
    if (others.length === 0) return;
    // Claims under way may have made them. Once these have ended, what is still unknown was made by one that was given up.
    await Promise.allSettled([...this.#calls]);
    const orphans = others.filter((id) => !book.knows(id));
    if (orphans.length === 0) return;
    const released = await link.call((signal) => forgetLeases(sql, worker(), orphans, signal));
    logger.info("worker.orphans_released", { leases: orphans.length, jobs: released });
  }
}
