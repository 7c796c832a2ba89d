import type { Clock } from "../core/clock.ts";
import type { LaneScope } from "../db/worker-functions.ts";
import type { Attempt } from "./attempt.ts";
import { Wakeup } from "./wakeup.ts";

export interface LaneSettings {
  /** The queue's name, or `*`. */
  readonly name: string;
  /** The most handlers that run at a time. */
  readonly concurrency: number;
  /** The most jobs that wait in this process for a free slot. */
  readonly maxPrefetch: number;
  /** The most jobs that one call of a handler takes; more than 1 with batch handlers. */
  readonly batchSize: number;
  /** How long a job may wait in this process. */
  readonly horizonMs: number;
}

/** Newer runs weigh this much in the average run time. */
const WEIGHT = 0.1;
/** Below this no average is told from zero. */
const SHORTEST_RUN_MS = 0.001;
/** What may lie in the buffer, in characters of JSON. */
const MOST_BUFFERED_CHARS = 32 * 1024 * 1024;
/** A claim is at most this many times as large as the one before, so that large payloads show before they hurt. */
const GROWTH = 4;

/**
 * A queue's share of a worker: so many slots, a buffer of claimed jobs, and the memory of where the last claim ended.
 *
 * How much it prefetches follows from how long its handlers take: a buffered job shall get a slot within the horizon.
 */
export class Lane {
  readonly name: string;
  readonly concurrency: number;
  readonly batchSize: number;
  readonly horizonMs: number;
  readonly scope: LaneScope;
  readonly wakeup: Wakeup;
  /** Handlers that run. A batch counts as one. */
  running = 0;
  /** Where the last claim ended, as JSON. */
  mark: string | null = null;
  /** Local time of the next claim without a mark. */
  sweepAt = 0;
  /** Local time before which no claim is worth it. */
  nextClaimAt = 0;
  /** Local time before which nothing is sent, because the last call failed for no passing reason. */
  notBefore = 0;
  /** Claims in a row that found nothing. */
  emptyClaims = 0;
  /** What `workCount` was when the last empty claim was sent. */
  emptyAtWork = -1;
  lastFreedAt = 0;
  readonly #maxPrefetch: number;
  #buffer: Attempt[] = [];
  #head = 0;
  #runMs: number | undefined;
  #charsPerJob = 0;
  #lastClaimed: number;
  #capacity: number;
  #claimSize = 1;

  constructor(settings: LaneSettings, scope: LaneScope, clock: Clock) {
    this.name = settings.name;
    this.concurrency = settings.concurrency;
    this.batchSize = settings.batchSize;
    this.horizonMs = settings.horizonMs;
    this.scope = scope;
    this.wakeup = new Wakeup(clock);
    this.#maxPrefetch = settings.maxPrefetch;
    this.#capacity = settings.concurrency * settings.batchSize;
    this.#lastClaimed = this.#capacity;
  }

  get buffered(): number {
    return this.#buffer.length - this.#head;
  }

  get hasFreeSlot(): boolean {
    return this.running < this.concurrency;
  }

  /** How many more jobs fit. */
  get room(): number {
    return this.#capacity - this.running * this.batchSize - this.buffered;
  }

  /** Whether there is room enough to make a claim worth its round trip. */
  get isHungry(): boolean {
    const room = this.room;
    return room >= this.#claimSize || (room > 0 && this.buffered === 0 && this.hasFreeSlot);
  }

  /** How many jobs the next claim may bring. */
  get claimLimit(): number {
    const most = Math.max(this.#claimSize, this.concurrency * this.batchSize);
    return Math.max(0, Math.min(this.room, most, this.#lastClaimed * GROWTH));
  }

  push(attempt: Attempt): void {
    this.#buffer.push(attempt);
  }

  shift(): Attempt | undefined {
    const attempt = this.#buffer[this.#head];
    if (!attempt) return undefined;
    this.#head += 1;
    if (this.#head === this.#buffer.length) {
      this.#buffer = [];
      this.#head = 0;
    }
    return attempt;
  }

  /** Takes further jobs of one type out of the buffer, up to `count`. */
  shiftSame(type: string, count: number): Attempt[] {
    const taken: Attempt[] = [];
    const kept: Attempt[] = [];
    for (let at = this.#head; at < this.#buffer.length; at += 1) {
      const attempt = this.#buffer[at] as Attempt;
      (taken.length < count && attempt.type === type ? taken : kept).push(attempt);
    }
    this.#buffer = kept;
    this.#head = 0;
    return taken;
  }

  /** Empties the buffer. */
  takeAll(): Attempt[] {
    const all = this.#buffer.slice(this.#head);
    this.#buffer = [];
    this.#head = 0;
    return all;
  }

  /** A claim brought `count` jobs in an answer of so many characters. */
  claimed(count: number, chars: number): void {
    const charsPerJob = chars / count;
    this.#charsPerJob = Math.max(charsPerJob, this.#charsPerJob * (1 - WEIGHT));
    this.#lastClaimed = Math.max(count, this.concurrency * this.batchSize);
    this.#plan();
  }

  /** A handler ended and its slot is free. */
  freed(now: number, msPerJob: number): void {
    this.running -= 1;
    this.lastFreedAt = now;
    this.#runMs =
      this.#runMs === undefined ? msPerJob : this.#runMs + (msPerJob - this.#runMs) * WEIGHT;
  }

  /**
   * Jobs lie in the buffer and no slot came free within the horizon: what was learned about the run time is wrong.
   * Answers whether it is so, and plans with the longer time from then on.
   */
  isStalled(now: number): boolean {
    const stalledMs = now - this.lastFreedAt;
    if (this.buffered === 0 || this.hasFreeSlot || stalledMs < this.horizonMs) return false;
    // None has ended yet: the runs are longer than this.
    this.#runMs = Math.max(this.#runMs ?? 0, stalledMs * 2);
    this.#plan();
    return true;
  }

  /** A new job may be there: look at once, and everywhere. */
  stir(): void {
    this.emptyClaims = 1;
    this.nextClaimAt = 0;
    this.mark = null;
    this.wakeup.wake();
  }

  /** Once for each claim, not for each job. */
  #plan(): void {
    const slots = this.concurrency * this.batchSize;
    const byTime = (slots * this.horizonMs) / Math.max(this.#runMs ?? Infinity, SHORTEST_RUN_MS);
    const bySize = MOST_BUFFERED_CHARS / Math.max(this.#charsPerJob, 1);
    const prefetch = Math.floor(Math.min(this.#maxPrefetch, byTime, bySize));
    this.#capacity = slots + prefetch;
    // Half of the buffer, so that one half is worked on while the other is fetched.
    this.#claimSize = Math.max(1, Math.ceil(prefetch / 2));
  }
}
