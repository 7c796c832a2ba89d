import type { LeaseBook } from "./lease-book.ts";
import { type ExtendParts, extend } from "./upkeep.ts";

/**
 * Notifications that a job is to be cancelled. Whoever may connect may send one: so the database is asked whether it is true, and only for
 * jobs that are here.
 */
export class CancelCalls {
  readonly #parts: ExtendParts;
  readonly #asked = new Set<string>();
  #isAsking = false;

  constructor(parts: ExtendParts) {
    this.#parts = parts;
  }

  readonly hear = (leaseId: string, jobId: string): void => {
    if (!this.#parts.book.find(leaseId, jobId)) return;
    this.#asked.add(leaseId);
    if (!this.#isAsking) void this.#ask();
  };

  /** All that came while an answer was under way are one question. Never rejects. */
  async #ask(): Promise<void> {
    const { settings, book } = this.#parts;
    this.#isAsking = true;
    try {
      while (this.#asked.size > 0) {
        const leases = living(book, this.#asked);
        this.#asked.clear();
        await extend(this.#parts, settings.leaseMs / 3, leases);
      }
    } catch (error) {
      // The next extension of all leases brings the same news.
      settings.logger.debug("cancel.ask_failed", { error });
    } finally {
      this.#isAsking = false;
    }
  }
}

function living(book: LeaseBook, wanted: ReadonlySet<string>): string[] {
  return book.ids.filter((id) => wanted.has(id));
}
