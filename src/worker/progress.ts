import type { Clock } from "../core/clock.ts";
import { encodeResult, type JsonValue, storableText } from "../core/json.ts";

export interface ProgressNews {
  readonly percent: number;
  readonly message: string | null;
  /** JSON text. */
  readonly data: string | null;
}

/** Between two writes of one job's progress, where a write is a statement. */
const PAUSE_MS = 500;

/** Writes the newest progress of one job, the first at once and the others with pauses in between. */
export class ProgressReporter {
  readonly #clock: Clock;
  readonly #write: (news: ProgressNews) => Promise<unknown>;
  readonly #pauseMs: number;
  #next: ProgressNews | undefined;
  #isBusy = false;
  #cancel: (() => void) | undefined;

  constructor(
    clock: Clock,
    write: (news: ProgressNews) => Promise<unknown>,
    pauseMs: number = PAUSE_MS,
  ) {
    this.#clock = clock;
    this.#write = write;
    this.#pauseMs = pauseMs;
  }

  report(percent: number, message: string | undefined, data: JsonValue | undefined): void {
    this.#next = {
      percent: Number.isFinite(percent) ? Math.min(Math.max(percent, 0), 100) : 0,
      message: message === undefined ? null : storableText(String(message)),
      data: encodeNews(data),
    };
    if (!this.#isBusy) this.#send();
  }

  /** Drops what has not been written: the job has ended. */
  stop(): void {
    this.#next = undefined;
    this.#cancel?.();
  }

  #send(): void {
    const news = this.#next;
    if (!news) return;
    this.#next = undefined;
    this.#isBusy = true;
    const rest = (): void => {
      this.#cancel = this.#clock.setTimer(() => {
        this.#isBusy = false;
        this.#send();
      }, this.#pauseMs);
    };
    // Progress is news, not truth: a write that fails is not repeated.
    this.#write(news).then(rest, rest);
  }
}

/** Progress is news: what can't be written is left out, and is no reason to fail the job. */
function encodeNews(data: JsonValue | undefined): string | null {
  try {
    return encodeResult(data);
  } catch {
    return null;
  }
}
