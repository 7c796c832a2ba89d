import { armBells, disarmBells, type OfferTerms, passHeldBells } from "../db/worker-functions.ts";
import type { Lane } from "./lane.ts";
import type { Phase } from "./lane-loop.ts";
import type { Link } from "./link.ts";
import { scopeOfAll } from "./make-lanes.ts";
import { offerTerms } from "./offer-terms.ts";
import type { WorkerSettings } from "./options.ts";

export interface BellsParts {
  readonly settings: WorkerSettings;
  readonly worker: () => number;
  readonly link: Link;
  readonly lanes: readonly Lane[];
  readonly phase: Phase;
}

/** What the database knows of a worker's sleep: that it wants to be woken, and whether jobs may be brought to it. */
export class Bells {
  /** Who works until nothing is left looks for all: it must not miss what is on its way. */
  takesOffers = true;
  readonly #parts: BellsParts;
  readonly #terms: OfferTerms | null;
  readonly #arming = new Set<Promise<unknown>>();
  #isPassing = false;

  constructor(parts: BellsParts) {
    this.#parts = parts;
    this.#terms = offerTerms(parts.settings);
  }

  /** Where jobs are brought; undefined: nowhere. */
  get channel(): string | undefined {
    return this.#terms?.channel;
  }

  /**
   * Asks to be woken. Jobs may be brought only while we are heard to listen. Begins with an offered lease, if one is named, and
   * answers whether that still held.
   */
  async arm(isHeard: boolean, lease: string | null): Promise<boolean> {
    const { settings, worker, link, lanes, phase } = this.#parts;
    const terms = isHeard && this.takesOffers ? this.#terms : null;
    const accept = lease === null ? null : { lease, leaseMs: settings.leaseMs };
    const arming = link.call((signal) =>
      armBells(settings.sql, worker(), scopeOfAll(lanes), terms, accept, signal),
    );
    this.#arming.add(arming);
    try {
      return await arming;
    } finally {
      this.#arming.delete(arming);
      // It may have come after what a stop has taken back.
      if (phase.isStopping) this.disarm();
    }
  }

  /** Resolves when no call is under way that asks to be woken: whoever signs out before it ends would be brought jobs afterwards. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#arming);
  }

  /**
   * We were woken past a bell that an open transaction holds. While it counts, every enqueue would notify; once is enough. It is no loss
   * if this fails: the next such call tries again.
   */
  passHeld(): void {
    const { settings, worker, link } = this.#parts;
    if (this.#isPassing || link.isDown) return;
    this.#isPassing = true;
    link
      .call((signal) => passHeldBells(settings.sql, worker(), signal))
      .catch(() => undefined)
      .finally(() => {
        this.#isPassing = false;
      });
  }

  /** So that jobs come to others from now on. It is no loss if this fails: what comes all the same is given back. */
  disarm(): void {
    const { settings, worker, link } = this.#parts;
    if (!settings.listen || link.isDown) return;
    link.call((signal) => disarmBells(settings.sql, worker(), signal)).catch(() => undefined);
  }
}
