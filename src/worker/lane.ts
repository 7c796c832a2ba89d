import type { Clock } from "../core/clock.ts";
import type { LaneScope } from "../db/worker-functions.ts";
import type { Attempt } from "./attempt.ts";
import { JobBuffer } from "./job-buffer.ts";
import { Marks } from "./marks.ts";
import { Pace } from "./pace.ts";
import { Wakeup } from "./wakeup.ts";

export interface LaneSettings {
  /** The queue's name, or `*`. */
  readonly name: string;
  /** The most handlers that run at a time. */
  readonly concurrency: number;
  /** The most jobs that wait in this process for a free slot. */
  readonly maxPrefetch: number;
  /** How many jobs one call of a handler takes at least; more than 1 where all are batch handlers. */
  readonly batchSize: number;
  /** How long a job may wait in this process. */
  readonly horizonMs: number;
}

/** Which jobs a lane claims. */
export interface LaneChoice {
  readonly scope: LaneScope;
  /** The types that fit just now, as an array text; undefined: all of the scope. */
  readonly fitting: (() => string) | undefined;
}

/** What newer jobs weigh in the average of their sizes. */
const WEIGHT = 0.1;
/** What lies in the buffer is looked at so often within the horizon, and given back from so much too much on. */
const LOOKS = 8;
const TOLERANCE = 1.5;
/** Below this no average is told from zero. */
const SHORTEST_RUN_MS = 0.001;
/** The first claim is small and each may be so many times the one before, so that large payloads show before they hurt. */
const FIRST_CLAIM = 16;
const GROWTH = 4;
/** What one claim may bring, and what a lane may hold, in characters of JSON. */
const MOST_CLAIMED_CHARS = 16 * 1024 * 1024;
const MOST_HELD_CHARS = 128 * 1024 * 1024;

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
  #choice: LaneChoice;
  readonly wakeup: Wakeup;
  /** Handlers that run. A batch counts as one. */
  running = 0;
  /** Jobs are being started just now. */
  isFilling = false;
  /** Calls under way. */
  calls = 0;
  /** Jobs that those among them may bring which claim. */
  claiming = 0;
  /** The last claim brought all that it could take, and no other worker is at it: a second one at a time is worth it. */
  isFlowing = false;
  /** Where the last claims ended. */
  readonly marks: Marks;
  /** Local time from which on a claim looks at everything again, and not only beyond its mark. */
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
  readonly #clock: Clock;
  readonly #maxPrefetch: number;
  readonly #buffer = new JobBuffer();
  readonly #pace = new Pace();
  #lookedAt = -Infinity;
  #prefetch = 0;
  /** No slot has come free since the buffer was given back. */
  #isCautious = false;
  #charsPerJob = 0;
  #mayClaim: number = FIRST_CLAIM;
  #capacity: number;
  #claimSize = 1;

  constructor(settings: LaneSettings, choice: LaneChoice, clock: Clock) {
    this.name = settings.name;
    this.concurrency = settings.concurrency;
    this.batchSize = settings.batchSize;
    this.horizonMs = settings.horizonMs;
    this.#choice = choice;
    this.marks = new Marks(choice.scope.perTenant !== null);
    this.wakeup = new Wakeup(clock);
    this.#clock = clock;
    this.#maxPrefetch = settings.maxPrefetch;
    this.#capacity = this.#slots;
  }

  get scope(): LaneScope {
    return this.#choice.scope;
  }

  /** More of its names are known. */
  choose(choice: LaneChoice): void {
    this.#choice = choice;
    this.stir();
  }

  /** The scope of the next claim; null when no type fits any more, or none is known yet. */
  get scopeNow(): LaneScope | null {
    const typeIds = this.#choice.fitting?.() ?? this.scope.typeIds;
    return typeIds === "{}" ? null : { ...this.scope, typeIds };
  }

  get buffered(): number {
    return this.#buffer.size;
  }

  get hasFreeSlot(): boolean {
    return this.running < this.concurrency;
  }

  /**
   * Whether a job that comes without being asked for can begin. What a claim under way may bring does not count: the bell is armed
   * where there was nothing, so it brings nothing most of the time.
   */
  get isOpen(): boolean {
    return this.hasFreeSlot && this.buffered === 0;
  }

  /** How many more jobs fit. */
  get room(): number {
    return this.#capacity - this.running * this.batchSize - this.buffered - this.claiming;
  }

  /** Whether there is room enough to make a claim worth its round trip. */
  get isHungry(): boolean {
    const room = this.room;
    return room >= this.#claimSize || (room > 0 && this.buffered === 0 && this.hasFreeSlot);
  }

  /** Whether a claim may go out beside those under way. */
  get canClaim(): boolean {
    return this.claiming === 0 || this.isFlowing;
  }

  /** How many jobs the next claim may bring. */
  get claimLimit(): number {
    const most = Math.max(this.#claimSize, this.#slots);
    return Math.max(0, Math.min(this.room, most, this.#mayClaim));
  }

  push(attempt: Attempt): void {
    this.#buffer.push(attempt);
  }

  /** The most urgent of the buffer, and of those the first. */
  shift(): Attempt | undefined {
    return this.#buffer.shift();
  }

  /** Takes further jobs of one type out of the buffer, up to `count`. */
  shiftSame(type: string, count: number): Attempt[] {
    return this.#buffer.shiftSame(type, count);
  }

  /** Empties the buffer. */
  takeAll(): Attempt[] {
    return this.#buffer.dropLast(this.#buffer.size);
  }

  /** How many jobs of each queue lie in the buffer is added to this. */
  countByQueue(counts: Map<string, number>): void {
    for (const { row } of this.#buffer) counts.set(row[3], (counts.get(row[3]) ?? 0) + 1);
  }

  /**
   * How urgent the jobs are that should be looked for although the buffer is full, because less urgent ones lie in it: 1 for critical
   * ones only, up to 3. 0: none.
   */
  get wantsRanks(): number {
    if (this.marks.isTally || this.hasFreeSlot || this.claiming > 0) return 0;
    return Math.max(0, this.#buffer.leastRank);
  }

  /** How many more urgent jobs may come then. Those that they displace are given back. */
  get urgentLimit(): number {
    return Math.min(this.#capacity, this.#mayClaim);
  }

  /** A claim brought `count` jobs in an answer of so many characters. */
  claimed(count: number, chars: number): void {
    this.#charsPerJob = Math.max(chars / count, this.#charsPerJob * (1 - WEIGHT));
    this.#plan(count * GROWTH, this.#clock.now());
  }

  /** A claim failed. If that was for its size, the next one does better. */
  claimFailed(limit: number): void {
    this.#mayClaim = Math.max(1, Math.floor(limit / GROWTH));
  }

  /** A handler ended and its slot is free. */
  freed(now: number, msPerJob: number): void {
    this.running -= 1;
    this.lastFreedAt = now;
    this.#pace.ended(now, msPerJob);
    if (!this.#isCautious) return;
    this.#isCautious = false;
    this.#plan(this.#mayClaim, now);
  }

  /** Local time at which the buffer should be looked at again; Infinity while nothing has to wait in it. */
  get lookAt(): number {
    const isWaiting = this.buffered > 0 && !this.hasFreeSlot;
    return isWaiting ? this.#lookedAt + this.horizonMs / LOOKS : Infinity;
  }

  /**
   * Takes out of the buffer what would not get a slot within the horizon, as handlers run now: others may be able to run it. If no
   * slot came free within the horizon, that is all of it, and until one does nothing is prefetched.
   */
  takeExcess(now: number): Attempt[] {
    if (this.buffered === 0 || this.hasFreeSlot) return [];
    this.#lookedAt = now;
    this.#isCautious = now - this.lastFreedAt >= this.horizonMs;
    this.#plan(this.#mayClaim, now);
    let most = this.buffered > this.#prefetch * TOLERANCE ? this.#prefetch : this.buffered;
    const { chars, size } = this.#buffer;
    if (chars > MOST_HELD_CHARS)
      most = Math.min(most, Math.floor((size * MOST_HELD_CHARS) / chars));
    return this.#buffer.dropLast(this.buffered - most);
  }

  /** A new job may be there: look at once, and everywhere. */
  stir(): void {
    this.emptyClaims = 0;
    this.isFlowing = false;
    this.nextClaimAt = 0;
    this.marks.clear();
    this.wakeup.wake();
  }

  get #slots(): number {
    return this.concurrency * this.batchSize;
  }

  /** Once for each claim, not for each job. */
  #plan(mayClaim: number, now: number): void {
    const chars = Math.max(this.#charsPerJob, 1);
    const busy = this.hasFreeSlot ? 0 : this.running;
    const runMs = this.#pace.msPerRun(now, busy, now - this.lastFreedAt) ?? Infinity;
    // Whole rounds of all slots: handlers that began together end together.
    const rounds = Math.floor(this.horizonMs / Math.max(runMs * this.batchSize, SHORTEST_RUN_MS));
    const prefetch = this.#isCautious ? 0 : Math.min(this.#maxPrefetch, this.#slots * rounds);
    this.#prefetch = prefetch;
    const fits = Math.max(1, Math.floor(MOST_HELD_CHARS / chars));
    this.#capacity = Math.min(this.#slots + prefetch, fits);
    // Half of the buffer, so that one half is worked on while the other is fetched.
    this.#claimSize = Math.max(1, Math.ceil(prefetch / 2));
    const bySize = Math.max(1, Math.floor(MOST_CLAIMED_CHARS / chars));
    this.#mayClaim = Math.min(Math.max(mayClaim, FIRST_CLAIM), bySize);
  }
}
