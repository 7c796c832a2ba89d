import type { Clock } from "../core/clock.ts";
import type { SettledOutcome, SettlementDetail } from "../db/attempt-functions.ts";
import type { AdvanceRequest } from "../db/worker-functions.ts";
import type { Attempt } from "./attempt.ts";
import type { Lane } from "./lane.ts";

/** An attempt that ended in another way than completion. */
export interface RestEntry {
  readonly attempt: Attempt;
  readonly outcome: SettledOutcome;
  readonly detail: SettlementDetail;
}

/** What one call tells the database. */
export interface SettlementBatch {
  readonly done: readonly Attempt[];
  readonly rest: readonly RestEntry[];
}

/** Ends of attempts that the database does not know yet. */
export class Settlements {
  readonly #clock: Clock;
  #done: Attempt[] = [];
  #rest: RestEntry[] = [];
  #inFlight = 0;
  /** Local time of the oldest entry. */
  since = 0;
  /** The lane that has to see to it that the entries are sent. */
  sender: Lane | undefined;
  #whenEmpty: (() => void)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Entries that wait to be sent. */
  get size(): number {
    return this.#done.length + this.#rest.length;
  }

  /** Entries that wait, or are on their way. */
  get pending(): number {
    return this.size + this.#inFlight;
  }

  complete(attempt: Attempt): void {
    this.#done.push(attempt);
    if (this.sender === undefined) this.#begin(attempt.lane);
  }

  add(entry: RestEntry): void {
    this.#rest.push(entry);
    if (this.sender === undefined) this.#begin(entry.attempt.lane);
  }

  take(): SettlementBatch {
    const batch = { done: this.#done, rest: this.#rest };
    this.#inFlight += batch.done.length + batch.rest.length;
    this.#done = [];
    this.#rest = [];
    this.sender = undefined;
    return batch;
  }

  /** The database has answered. */
  confirm(batch: SettlementBatch): void {
    this.#inFlight -= batch.done.length + batch.rest.length;
    if (this.pending === 0) for (const tell of this.#whenEmpty.splice(0)) tell();
  }

  /** No answer came: keep it for the next call. */
  putBack(batch: SettlementBatch, sender: Lane): void {
    this.#inFlight -= batch.done.length + batch.rest.length;
    for (const attempt of batch.done) attempt.isUncertain = true;
    for (const { attempt } of batch.rest) attempt.isUncertain = true;
    this.#done = [...batch.done, ...this.#done];
    this.#rest = [...batch.rest, ...this.#rest];
    if (this.size > 0 && this.sender === undefined) this.#begin(sender);
  }

  /** Resolves once nothing waits and nothing is on its way. */
  whenEmpty(): Promise<void> {
    if (this.pending === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#whenEmpty.push(resolve);
    });
  }

  #begin(lane: Lane): void {
    this.since = this.#clock.now();
    this.sender = lane;
    lane.wakeup.wake();
  }
}

type EncodedBatch = Pick<
  AdvanceRequest,
  "doneLeases" | "doneIds" | "doneElapsedMs" | "doneResults" | "rest"
>;

/** The batch as parameters of a call. Texts are put together by hand: this is done for every job. */
export function encodeBatch({ done, rest }: SettlementBatch): EncodedBatch {
  if (done.length === 0) {
    return {
      doneLeases: null,
      doneIds: null,
      doneElapsedMs: null,
      doneResults: null,
      rest: encodeRest(rest),
    };
  }
  let leases = "";
  let ids = "";
  let elapsed = "";
  let results = "";
  let hasResults = false;
  for (const attempt of done) {
    leases += `,${attempt.lease.id}`;
    ids += `,${attempt.id}`;
    elapsed += `,${Math.round(attempt.elapsedMs)}`;
    results += `,${attempt.resultText ?? "null"}`;
    if (attempt.resultText !== null) hasResults = true;
  }
  return {
    doneLeases: `{${leases.slice(1)}}`,
    doneIds: `{${ids.slice(1)}}`,
    doneElapsedMs: `{${elapsed.slice(1)}}`,
    doneResults: hasResults ? `[${results.slice(1)}]` : null,
    rest: encodeRest(rest),
  };
}

function encodeRest(rest: readonly RestEntry[]): string | null {
  if (rest.length === 0) return null;
  return JSON.stringify(
    rest.map(({ attempt, outcome, detail }) => ({
      lease: attempt.lease.id,
      id: attempt.id,
      outcome,
      ...detail,
    })),
  );
}
