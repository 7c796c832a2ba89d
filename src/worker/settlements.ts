import type { Clock } from "../core/clock.ts";
import type { SettledOutcome, SettlementDetail } from "../db/attempt-functions.ts";
import type { AdvanceRequest } from "../db/worker-functions.ts";
import type { Attempt } from "./attempt.ts";
import type { Lane } from "./lane.ts";

/** How an attempt ended. */
export interface End {
  readonly attempt: Attempt;
  readonly outcome: SettledOutcome;
  readonly detail: SettlementDetail;
}

/** An end other than completion, with all of it as JSON. */
export interface RestEntry extends End {
  readonly text: string;
}

/** What one call tells the database. */
export interface SettlementBatch {
  readonly done: readonly Attempt[];
  readonly rest: readonly RestEntry[];
}

export function sizeOf({ done, rest }: SettlementBatch): number {
  return done.length + rest.length;
}

/** What one call tells at most: so many ends, and so many characters of results and errors. */
const MOST_ENTRIES = 5_000;
const MOST_CHARS = 8 * 1024 * 1024;

/** Ends of attempts that the database does not know yet. */
export class Settlements {
  readonly #clock: Clock;
  #done: Attempt[] = [];
  #rest: RestEntry[] = [];
  #chars = 0;
  #inFlight = 0;
  /** Local time of the oldest entry. */
  since = 0;
  /** The lane that has to see to it that the entries are sent. */
  sender: Lane | undefined;

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
    if (attempt.resultText !== null) this.#chars += attempt.resultText.length;
    if (this.sender === undefined) this.#begin(attempt.lane);
  }

  add(attempt: Attempt, outcome: SettledOutcome, detail: SettlementDetail): void {
    const text = JSON.stringify({ lease: attempt.lease.id, id: attempt.id, outcome, ...detail });
    this.#rest.push({ attempt, outcome, detail, text });
    this.#chars += text.length;
    if (this.sender === undefined) this.#begin(attempt.lane);
  }

  /** What to send next: all, or as much as fits into a call. */
  take(): SettlementBatch {
    const batch = this.#fitsOneCall ? this.#takeAll() : this.#takeSome();
    this.#inFlight += sizeOf(batch);
    return batch;
  }

  /** The database has answered for so many entries. */
  confirm(count: number): void {
    this.#inFlight -= count;
  }

  /** No answer came: keep it for the next call. */
  putBack(batch: SettlementBatch, sender: Lane): void {
    this.#inFlight -= sizeOf(batch);
    for (const attempt of batch.done) attempt.isUncertain = true;
    for (const { attempt } of batch.rest) attempt.isUncertain = true;
    this.#done = [...batch.done, ...this.#done];
    this.#rest = [...batch.rest, ...this.#rest];
    this.#count();
    if (this.size > 0 && this.sender === undefined) this.#begin(sender);
  }

  get #fitsOneCall(): boolean {
    return this.size <= MOST_ENTRIES && this.#chars <= MOST_CHARS;
  }

  #takeAll(): SettlementBatch {
    const batch = { done: this.#done, rest: this.#rest };
    this.#done = [];
    this.#rest = [];
    this.#chars = 0;
    this.sender = undefined;
    return batch;
  }

  /** At least one; what is left keeps its sender and its age, so that it follows at once. */
  #takeSome(): SettlementBatch {
    let room = MOST_CHARS;
    let count = 0;
    const fits = (chars: number): boolean => {
      room -= chars;
      count += 1;
      return count === 1 || (room >= 0 && count <= MOST_ENTRIES);
    };
    const doneEnd = endOf(this.#done, (attempt) => fits(attempt.resultText?.length ?? 0));
    const restEnd =
      doneEnd < this.#done.length ? 0 : endOf(this.#rest, (entry) => fits(entry.text.length));
    const batch = { done: this.#done.slice(0, doneEnd), rest: this.#rest.slice(0, restEnd) };
    this.#done = this.#done.slice(doneEnd);
    this.#rest = this.#rest.slice(restEnd);
    this.#count();
    return batch;
  }

  #count(): void {
    this.#chars = 0;
    for (const { resultText } of this.#done) this.#chars += resultText?.length ?? 0;
    for (const { text } of this.#rest) this.#chars += text.length;
  }

  #begin(lane: Lane): void {
    this.since = this.#clock.now();
    this.sender = lane;
    lane.wakeup.wake();
  }
}

/** How many members from the start on satisfy the condition. */
function endOf<T>(list: readonly T[], fits: (member: T) => boolean): number {
  const end = list.findIndex((member) => !fits(member));
  return end === -1 ? list.length : end;
}

type EncodedBatch = Pick<
  AdvanceRequest,
  "doneLeases" | "doneIds" | "doneElapsedMs" | "doneResults" | "rest"
>;

/** The batch as parameters of a call. Texts are put together by hand: this is done for every job. */
export function encodeBatch({ done, rest }: SettlementBatch): EncodedBatch {
  const encodedRest = rest.length === 0 ? null : `[${rest.map(({ text }) => text).join(",")}]`;
  if (done.length === 0) {
    return {
      doneLeases: null,
      doneIds: null,
      doneElapsedMs: null,
      doneResults: null,
      rest: encodedRest,
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
    rest: encodedRest,
  };
}
