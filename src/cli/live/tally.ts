import type { AttemptEnded } from "./attempt-line.ts";

/** How many attempts of this process ended how. */
export class Tally {
  readonly #counts = new Map<AttemptEnded["kind"], number>();

  add(kind: AttemptEnded["kind"]): void {
    this.#counts.set(kind, this.of(kind) + 1);
  }

  of(...kinds: AttemptEnded["kind"][]): number {
    return kinds.reduce((sum, kind) => sum + (this.#counts.get(kind) ?? 0), 0);
  }

  /** Every kind that occurred, for `--json`. */
  toJson(): Record<string, number> {
    return Object.fromEntries(this.#counts);
  }

  /** `120 completed, 3 retried`: what occurred, and nothing else. */
  toString(): string {
    const parts = [
      [this.of("completed"), "completed"],
      [this.of("retried"), "retried"],
      [this.of("snoozed"), "snoozed"],
      [this.of("failed", "discarded"), "failed"],
      [this.of("cancelled"), "cancelled"],
      [this.of("released"), "given back"],
      [this.of("lost", "unconfirmed"), "lost"],
    ] as const;
    const told = parts.filter(([amount]) => amount > 0);
    return told.length === 0
      ? "none"
      : told.map(([amount, word]) => `${amount.toLocaleString("en-US")} ${word}`).join(", ");
  }
}
