import type { Clock } from "../core/clock.ts";
import type { SettledOutcome, SettlementDetail } from "../db/attempt-functions.ts";
import type { Attempt } from "./attempt.ts";
import type { Lane } from "./lane.ts";
import { countEnds, type Ends, Later } from "./later.ts";
import type { Lease } from "./lease-book.ts";

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
  /** Leases whose attempts all completed. */
  readonly whole: readonly Lease[];
  readonly done: readonly Attempt[];
  readonly rest: readonly RestEntry[];
  /** One end that was too slow or refused before: nothing else shall fail with it. */
  readonly isAlone?: boolean;
}

export function sizeOf({ whole, done, rest }: SettlementBatch): number {
  return whole.reduce((sum, lease) => sum + lease.attempts.length, done.length + rest.length);
}

/** What one call tells at most: so many ends, and so many characters of results and errors. */
const MOST_ENTRIES = 5_000;
const MOST_CHARS = 8 * 1024 * 1024;
/** So many finished jobs are written at once, without waiting for company. */
const FULL_BATCH = 500;
/** Leases of fewer jobs are not worth waiting for their last one. */
const LEAST_WHOLE = 32;
/** A completed job waits so many times the usual delay for the others of its lease: settling a lease as one costs half. */
const PATIENCE = 5;
/** Until an end is told again whose lease somebody else held. */
const BUSY_PAUSE_MS = 250;
/** Until an end is told again that was too slow, or refused for what others did. */
const SLOW_PAUSE_MS = 5_000;

/** Ends of attempts that the database does not know yet. */
export class Settlements {
  readonly #clock: Clock;
  readonly #delayMs: number;
  #whole: Lease[] = [];
  #done: Attempt[] = [];
  #rest: RestEntry[] = [];
  /** Leases of which some attempts completed, and since when. */
  readonly #held = new Map<Lease, number>();
  readonly #later = new Later();
  /** Entries to be sent, and those among them that are held back. */
  #size = 0;
  #heldSize = 0;
  #chars = 0;
  #inFlight = 0;
  /** An end that is told alone is on its way: a further one waits, so that there is a call for all others. */
  #isAloneUnderWay = false;
  /** Local time of the oldest entry that is not held back. */
  #since = 0;
  /** The lane that has to see to it that the entries are sent. */
  sender: Lane | undefined;

  constructor(clock: Clock, delayMs: number) {
    this.#clock = clock;
    this.#delayMs = delayMs;
  }

  /** Entries that wait to be sent. */
  get size(): number {
    return this.#size + this.#later.size;
  }

  /** Entries that wait, or are on their way. */
  get pending(): number {
    return this.size + this.#inFlight;
  }

  /** The local time at which something can be sent at the earliest: what was put off has to wait even at the end. */
  get sendableAt(): number {
    return this.#size > 0 ? 0 : this.#laterDueAt;
  }

  /** The local time at which something has to be sent; Infinity for nothing. */
  get dueAt(): number {
    const ready = this.#size - this.#heldSize;
    if (ready >= FULL_BATCH) return 0;
    // They are in the order of their times.
    const [heldSince = Infinity] = this.#held.values();
    const due = ready > 0 ? this.#since + this.#delayMs : Infinity;
    return Math.min(due, heldSince + this.#delayMs * PATIENCE, this.#laterDueAt);
  }

  get #laterDueAt(): number {
    return this.#isAloneUnderWay ? this.#later.busyDueAt : this.#later.dueAt;
  }

  complete(attempt: Attempt): void {
    const { lease } = attempt;
    this.#enter(attempt.lane, attempt.resultText?.length ?? 0);
    const size = lease.attempts.length;
    if (!lease.isWhole || (size > 1 && size < LEAST_WHOLE)) {
      this.#ready(1);
      this.#done.push(attempt);
      return;
    }
    attempt.isHeld = true;
    lease.completed += 1;
    this.#heldSize += 1;
    if (lease.completed < lease.attempts.length) {
      if (!this.#held.has(lease)) this.#held.set(lease, this.#clock.now());
      return;
    }
    this.#held.delete(lease);
    this.#heldSize -= lease.completed;
    this.#whole.push(lease);
    this.#ready(lease.completed);
  }

  add(attempt: Attempt, outcome: SettledOutcome, detail: SettlementDetail): void {
    const text = JSON.stringify({ lease: attempt.lease.id, id: attempt.id, outcome, ...detail });
    this.breakUp(attempt.lease);
    this.#enter(attempt.lane, text.length);
    this.#ready(1);
    this.#rest.push({ attempt, outcome, detail, text });
  }

  /** Something of this lease is told apart: what is held back of it goes the ordinary way. */
  breakUp(lease: Lease): void {
    lease.isWhole = false;
    if (!this.#held.delete(lease)) return;
    const freed = lease.attempts.filter((attempt) => attempt.isHeld);
    this.#heldSize -= freed.length;
    for (const attempt of freed) this.#done.push(attempt);
    this.#ready(freed.length);
  }

  /** What to send next, as much as fits into a call; with `isLast` also what is held back. */
  take(isLast: boolean): SettlementBatch {
    const now = this.#clock.now();
    const alone = this.#isAloneUnderWay ? undefined : this.#later.takeAlone(now);
    if (alone) {
      this.#isAloneUnderWay = true;
      return this.#send({ whole: [], ...alone, isAlone: true });
    }
    this.#enterAgain(this.#later.takeDue(now));
    for (const [lease, since] of this.#held) {
      if (isLast || now >= since + this.#delayMs * PATIENCE) this.breakUp(lease);
    }
    const fits = this.#size <= MOST_ENTRIES && this.#chars <= MOST_CHARS;
    const batch = fits ? this.#takeAll() : this.#takeSome();
    this.#size -= sizeOf(batch);
    return this.#send(batch);
  }

  #send(batch: SettlementBatch): SettlementBatch {
    this.#inFlight += sizeOf(batch);
    if (this.size === 0) this.sender = undefined;
    return batch;
  }

  /** Not written, because somebody else holds their leases at this moment: told again after a pause. */
  putOff(ends: Ends, sender: Lane): void {
    this.#later.add(ends, this.#clock.now() + BUSY_PAUSE_MS);
    this.#wait(ends, sender);
  }

  /** They made a call fail that told of them alone: told again later, each alone. */
  setApart(ends: Ends, sender: Lane): void {
    this.#later.addAlone(ends, this.#clock.now() + SLOW_PAUSE_MS);
    this.#wait(ends, sender);
  }

  /** The call that told of one alone has ended, however it did. */
  aloneEnded(): void {
    this.#isAloneUnderWay = false;
    this.sender?.wakeup.wake();
  }

  #wait(ends: Ends, sender: Lane): void {
    this.#inFlight -= countEnds(ends);
    this.sender ??= sender;
    this.sender.wakeup.wake();
  }

  #enterAgain(ends: Ends): void {
    const count = countEnds(ends);
    if (count === 0) return;
    this.#size += count;
    this.#done.push(...ends.done);
    this.#rest.push(...ends.rest);
  }

  /** The database has answered for so many entries. */
  confirm(count: number): void {
    this.#inFlight -= count;
  }

  /** No answer came: keep it for the next call. Nobody knows what arrived, so each job is named from now on. */
  putBack(batch: SettlementBatch, sender: Lane): void {
    this.#inFlight -= sizeOf(batch);
    for (const lease of batch.whole) lease.isWhole = false;
    const again = [...batch.whole.flatMap((lease) => lease.attempts), ...batch.done];
    for (const attempt of again) attempt.isUncertain = true;
    for (const { attempt } of batch.rest) attempt.isUncertain = true;
    if (again.length + batch.rest.length === 0) return;
    this.#enter(sender, 0, again.length + batch.rest.length);
    this.#ready(again.length + batch.rest.length);
    this.#done = [...again, ...this.#done];
    this.#rest = [...batch.rest, ...this.#rest];
    this.#count();
  }

  #takeAll(): SettlementBatch {
    const batch = { whole: this.#whole, done: this.#done, rest: this.#rest };
    this.#whole = [];
    this.#done = [];
    this.#rest = [];
    this.#count();
    return batch;
  }

  /** At least one; what is left keeps its sender and its age, so that it follows at once. */
  #takeSome(): SettlementBatch {
    for (const lease of this.#whole.splice(0)) this.#done.push(...lease.attempts);
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
    const batch = {
      whole: [],
      done: this.#done.slice(0, doneEnd),
      rest: this.#rest.slice(0, restEnd),
    };
    this.#done = this.#done.slice(doneEnd);
    this.#rest = this.#rest.slice(restEnd);
    this.#count();
    return batch;
  }

  /** So that the estimate does not drift: once for each call, and over little, because most was just taken. */
  #count(): void {
    this.#chars = 0;
    for (const { resultText } of this.#done) this.#chars += resultText?.length ?? 0;
    for (const { text } of this.#rest) this.#chars += text.length;
    for (const lease of this.#held.keys()) {
      for (const { isHeld, resultText } of lease.attempts) {
        if (isHeld) this.#chars += resultText?.length ?? 0;
      }
    }
  }

  #enter(lane: Lane, chars: number, count = 1): void {
    this.#size += count;
    this.#chars += chars;
    if (this.sender !== undefined) return;
    this.sender = lane;
    lane.wakeup.wake();
  }

  /** So many entries more can be sent. The sender has to hear of the first, and of a full batch. */
  #ready(count: number): void {
    const now = this.#size - this.#heldSize;
    const before = now - count;
    if (before <= 0) this.#since = this.#clock.now();
    if (before <= 0 || (before < FULL_BATCH && now >= FULL_BATCH)) this.sender?.wakeup.wake();
  }
}

/** How many members from the start on satisfy the condition. */
function endOf<T>(list: readonly T[], fits: (member: T) => boolean): number {
  const end = list.findIndex((member) => !fits(member));
  return end === -1 ? list.length : end;
}
