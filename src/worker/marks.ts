import type { AdvanceAnswer } from "../db/worker-functions.ts";

/** The mark of a claim that looks at everything. */
const EVERYTHING = "{}";

/**
 * Where a lane's next claim goes on. In one tenant's line all calls share the place. Where tenants take turns each of the calls that
 * may be under way at a time goes round by itself: with the same start they would meet the same tenants.
 */
export class Marks {
  /** The mark counts how much each tenant had: then it holds for the whole run. */
  readonly isTally: boolean;
  #place: string | null = null;
  #turns: (string | null)[] = [];
  /** Tenants take turns. Then a mark tells whose turn it is, and each claim looks at everything. */
  #isTurn = false;

  constructor(isTally = false) {
    this.isTally = isTally;
  }

  /** The mark for this call, as JSON; null where nothing is known of much to do. */
  get(call: number): string | null {
    return this.#isTurn ? (this.#turns[call] ?? null) : this.#place;
  }

  /** The place, with the wish to look at everything this time: the database lets one of many workers do that. */
  get sweeping(): string | null {
    return this.#place && `${this.#place.slice(0, -1)},"sweep":true}`;
  }

  /** A look for jobs that are more urgent than this rank, and for no others. */
  static urgent(rank: number): string {
    return JSON.stringify({ ranks: rank });
  }

  set(call: number, mark: AdvanceAnswer["mark"]): void {
    const text = mark && JSON.stringify(mark);
    this.#isTurn = mark?.fair !== undefined;
    if (this.#isTurn) {
      this.#turns[call] = text;
      this.#place = null;
    } else {
      this.#turns = [];
      this.#place = text;
    }
  }

  /** Whether claims go on from a place, so that what lies before it is not seen. */
  get hasPlace(): boolean {
    return this.#place !== null && this.#place !== EVERYTHING && !this.isTally;
  }

  /** As if nothing was claimed yet. */
  clear(): void {
    if (this.isTally) return;
    this.#place = null;
    this.#turns = [];
    this.#isTurn = false;
  }
}
