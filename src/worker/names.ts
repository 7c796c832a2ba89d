import { backoffDelay } from "../core/backoff.ts";
import { type WorkerIds, workerNames } from "../db/sign-in.ts";
import type { Lane } from "./lane.ts";
import type { Link } from "./link.ts";
import { areComplete, choiceOf, namesOf } from "./make-lanes.ts";
import type { WorkerSettings } from "./options.ts";
import { Wakeup } from "./wakeup.ts";

/** Between two looks for names that another transaction is making. */
const LOOK = { baseMs: 20, capMs: 500, jitter: 0.5 };

/** Learns the ids of names that an open transaction was making when the worker signed in. The others are worked on meanwhile. */
export class Names {
  readonly #settings: WorkerSettings;
  readonly #link: Link;
  readonly #lanes: readonly Lane[];
  readonly #rearm: () => void;
  readonly #wakeup: Wakeup;
  #ids: WorkerIds;

  /** `rearm`: bells are armed anew before the next sleep, because on queues that were not known there is none. */
  constructor(
    settings: WorkerSettings,
    link: Link,
    lanes: readonly Lane[],
    rearm: () => void,
    ids: WorkerIds,
  ) {
    this.#settings = settings;
    this.#link = link;
    this.#lanes = lanes;
    this.#rearm = rearm;
    this.#wakeup = new Wakeup(settings.clock);
    this.#ids = ids;
  }

  /** The names may be there now. */
  hurry(): void {
    this.#wakeup.wake();
  }

  /** Ends when all names are known, or when the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const settings = this.#settings;
    const link = this.#link;
    if (areComplete(settings, this.#ids)) return;
    signal.addEventListener("abort", () => this.hurry(), { once: true });
    for (let looks = 0; !areComplete(settings, this.#ids) && !signal.aborted; looks += 1) {
      await this.#wakeup.sleep(backoffDelay(LOOK, looks, settings.random()));
      await link.ready(signal);
      if (signal.aborted) return;
      try {
        const ids = await link.call((patience) =>
          workerNames(settings.sql, namesOf(settings), patience),
        );
        if (JSON.stringify(ids) === JSON.stringify(this.#ids)) continue;
        this.#ids = ids;
        this.#rearm();
        for (const lane of this.#lanes) lane.choose(choiceOf(lane.name, settings, ids));
      } catch (error) {
        settings.logger.debug("worker.names_failed", { error });
      }
    }
  }
}
