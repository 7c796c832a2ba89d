import { sweepChildren } from "../db/sweep-children.ts";
import type { Link } from "./link.ts";
import type { WorkerSettings } from "./options.ts";
import { Wakeup } from "./wakeup.ts";

export interface ChildSweepParts {
  readonly settings: WorkerSettings;
  readonly link: Link;
  /** Jobs may have become pending. */
  readonly onFreed: () => void;
  /** Nothing can be done for the moment. */
  readonly onRest: () => void;
}

/** Pauses while all that is left is held by somebody else. */
const HELD_WAITS_MS = [5, 10, 20, 50, 100, 200, 500] as const;
const FAULT_WAIT_MS = 1_000;

/**
 * Goes on where the end of a parent left off: with children beyond its slice, and with those that somebody held at that moment. Slice by
 * slice without a pause as long as there is progress.
 */
export class ChildSweep {
  readonly #parts: ChildSweepParts;
  /** To be woken when the signal of `run` aborts. */
  readonly wakeup: Wakeup;
  #isWanted = false;
  #isFreeing = false;
  #isPausing = false;

  constructor(parts: ChildSweepParts) {
    this.#parts = parts;
    this.wakeup = new Wakeup(parts.settings.clock);
  }

  /** Children may become pending in a moment. Those that somebody holds for long don't count. */
  get isFreeing(): boolean {
    return this.#isFreeing;
  }

  /** Something is left to be swept. */
  wake(): void {
    this.#isWanted = true;
    this.#isFreeing = true;
    // A pause is not cut short: what is left is held by others, and every call of this worker says so.
    if (!this.#isPausing) this.wakeup.wake();
  }

  /** Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (!this.#isWanted) await this.wakeup.sleep(Infinity);
      this.#isWanted = false;
      await this.#sweep(signal);
      this.#isFreeing = this.#isWanted;
      this.#parts.onRest();
    }
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    const { settings, link, onFreed, onRest } = this.#parts;
    let stuck = 0;
    while (!signal.aborted) {
      await link.ready(signal);
      if (signal.aborted) return;
      let wait = 0;
      try {
        const { swept, is_more } = await link.call((patience) =>
          sweepChildren(settings.sql, patience),
        );
        if (swept > 0) onFreed();
        if (!is_more) return;
        stuck = swept > 0 ? 0 : stuck + 1;
        if (stuck > 0) wait = HELD_WAITS_MS[stuck - 1] ?? HELD_WAITS_MS.at(-1) ?? 0;
      } catch (error) {
        if (signal.aborted) return;
        settings.logger.debug("worker.sweep_failed", { error });
        stuck = HELD_WAITS_MS.length;
        wait = FAULT_WAIT_MS;
      }
      this.#isFreeing = stuck < HELD_WAITS_MS.length;
      if (!this.#isFreeing) onRest();
      this.#isPausing = wait > 0;
      if (wait > 0) await this.wakeup.sleep(wait);
      this.#isPausing = false;
    }
  }
}
