import type { Clock } from "../core/clock.ts";
import { DatabaseTimeoutError, DatabaseUnreachableError } from "../core/database-errors.ts";
import { hasCode } from "../core/errors.ts";
import { turn } from "../core/turn.ts";
import { enqueueMany, enqueueOne, type MadeJob, type NewJob } from "../db/enqueue-functions.ts";
import type { Queryable } from "../db/sql.ts";
import { type CallOptions, callerOf, timeoutOf, withSignal } from "./call-options.ts";
import { DueTimes } from "./due-times.ts";

/** The most of one call, in jobs and in characters of payload. */
const MOST_JOBS = 500;
const MOST_CHARS = 4 * 1024 * 1024;
/** A call that takes longer does not hold up the next: it may wait for a connection that is gone. */
const SLOW_MS = 100;
/** Calls that are under way at a time, of jobs that have the same in common. */
const MOST_CALLS = 4;

/** Calls that share a signal, one after the other: a driver may leave its listeners on, and runtimes warn of eleven. */
const MOST_USES = 8;

/** Gives up calls. */
interface Cancel {
  readonly controller: AbortController;
  uses: number;
}

/** Jobs that have a type, queue and tenant in common. */
interface Group {
  readonly waiting: Set<Waiting>;
  calls: number;
  isSending: boolean;
  /** Ends the wait for a call to end. */
  onEnd: () => void;
  /** Somebody has come while a call is under way. */
  onJoin: () => void;
}

/**
 * Lets jobs that are enqueued at the same time share a statement and its commit. Nobody waits for company longer than for a turn of
 * the event loop; what comes while a call is under way gathers, so the more there is to do, the larger the batches. Each caller gets
 * the answer for its own job: when a shared call is refused, its jobs are sent one by one. Each waits for as long as it wants to.
 *
 * The turn lets those in who enqueue their next job as soon as the last one is answered. Without it ten such callers fall into two
 * groups that wait for each other, of one and of nine. Where jobs come one by one, nobody is waited for.
 *
 * Only jobs of one type, queue and tenant are put together, and none with a key or with parents: a call may have to wait for another
 * transaction that is just making a new name or key, and nobody shall wait who would not have to wait alone.
 */
export class SharedCommits {
  readonly #db: Queryable;
  readonly #clock: Clock;
  /** What gathers behind the call that is under way, by what the jobs have in common. */
  readonly #groups = new Map<string, Group>();
  readonly #dueTimes: DueTimes<Waiting>;
  /** Whether the last call carried several jobs. */
  #wasShared = false;
  /** Controllers of finished calls that were not aborted, for reuse: creating one is the most expensive part of a call. */
  readonly #spare: Cancel[] = [];

  constructor(db: Queryable, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
    this.#dueTimes = new DueTimes(clock, (waiting) => giveUp(waiting, lateness(waiting)));
  }

  enqueue(job: NewJob, options: CallOptions): Promise<MadeJob> {
    if (job.idempotencyKey !== undefined || job.dependsOn !== undefined) {
      return callerOf(this.#db, this.#clock)(options, (db) => enqueueOne(db, job));
    }
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    const ms = timeoutOf(options);
    const key = JSON.stringify([job.type, job.queue, job.tenantId]);
    const group = this.#groups.get(key) ?? this.#newGroup(key);
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        job,
        ms,
        line: group.waiting,
        resolve,
        reject,
        end,
        onGiveUp: undefined,
        isOver: false,
      };
      const onAbort = signal && ((): void => giveUp(waiting, signal.reason));
      const dueTimes = this.#dueTimes;
      function end(): void {
        dueTimes.delete(waiting);
        if (onAbort) signal.removeEventListener("abort", onAbort);
      }
      if (onAbort) signal.addEventListener("abort", onAbort);
      dueTimes.add(waiting, ms);
      group.waiting.add(waiting);
      if (!group.isSending) return void this.#send(key, group);
      group.onJoin();
    });
  }

  #newGroup(key: string): Group {
    const group = {
      waiting: new Set<Waiting>(),
      calls: 0,
      isSending: false,
      onEnd: nothing,
      onJoin: nothing,
    };
    this.#groups.set(key, group);
    return group;
  }

  /** Never rejects. */
  async #send(key: string, group: Group): Promise<void> {
    group.isSending = true;
    while (group.waiting.size > 0) {
      // Those who call in the same breath are there after a moment; those who come back after an answer need the turn.
      await (this.#wasShared ? turn() : undefined);
      while (group.calls >= MOST_CALLS) await nextEnd(group);
      const batch = takeFitting(group.waiting);
      if (batch.length === 0) continue;
      this.#wasShared = batch.length > 1;
      group.calls += 1;
      const call = this.#call(batch).then(() => {
        group.calls -= 1;
        group.onEnd();
        if (group.calls === 0 && !group.isSending) this.#groups.delete(key);
      });
      await this.#endOrSlow(group, call);
    }
    group.isSending = false;
    if (group.calls === 0) this.#groups.delete(key);
  }

  /** Waits until the call has ended. If that takes long, and others wait for it, only until they may go out beside it. */
  #endOrSlow(group: Group, call: Promise<void>): Promise<void> {
    const clock = this.#clock;
    const slowAt = clock.now() + SLOW_MS;
    return new Promise((resolve) => {
      let cancel = nothing;
      const onJoin = (): void => {
        group.onJoin = nothing;
        const left = slowAt - clock.now();
        if (left <= 0) resolve();
        else cancel = clock.setTimer(resolve, left);
      };
      if (group.waiting.size > 0) onJoin();
      else group.onJoin = onJoin;
      void call.then(() => {
        if (group.onJoin === onJoin) group.onJoin = nothing;
        cancel();
        resolve();
      });
    });
  }

  /** Never rejects. */
  async #call(batch: readonly Waiting[]): Promise<void> {
    // Given up when nobody waits for it any more.
    const cancel = this.#spare.pop() ?? { controller: new AbortController(), uses: 0 };
    const abandoned = cancel.controller;
    let left = batch.length;
    const onGiveUp = (reason: unknown): void => {
      left -= 1;
      if (left === 0) abandoned.abort(reason);
    };
    for (const waiting of batch) waiting.onGiveUp = onGiveUp;
    const db = withSignal(this.#db, abandoned.signal);
    if (batch.length === 1) await Promise.all(batch.map((waiting) => send(db, waiting)));
    else if (!(await together(db, batch))) {
      await Promise.all(batch.map((waiting) => sendApart(this.#db, waiting)));
    }
    cancel.uses += 1;
    const isFit = !abandoned.signal.aborted && cancel.uses < MOST_USES;
    if (isFit && this.#spare.length < MOST_CALLS) this.#spare.push(cancel);
  }
}

function nothing(): void {
  // Nobody waits for it.
}

function nextEnd(group: Group): Promise<void> {
  return new Promise((resolve) => {
    group.onEnd = resolve;
  });
}

/** One job, and who waits for it. */
interface Waiting {
  readonly job: NewJob;
  readonly ms: number;
  /** Where it waits until it is sent. */
  readonly line: Set<Waiting>;
  readonly resolve: (made: MadeJob) => void;
  readonly reject: (error: unknown) => void;
  /** Called when it is answered or given up, before its promise settles. */
  readonly end: () => void;
  /** Called when the job was sent and its caller does not wait any longer. */
  onGiveUp: ((reason: unknown) => void) | undefined;
  /** It was refused, or its caller does not wait any longer. */
  isOver: boolean;
}

function answer(waiting: Waiting, made: MadeJob): void {
  waiting.end();
  waiting.resolve(made);
}

function refuse(waiting: Waiting, error: unknown): void {
  waiting.isOver = true;
  waiting.end();
  waiting.reject(error);
}

function giveUp(waiting: Waiting, reason: unknown): void {
  waiting.line.delete(waiting);
  refuse(waiting, reason);
  waiting.onGiveUp?.(reason);
}

function lateness({ ms, onGiveUp }: Waiting): Error {
  if (onGiveUp) return new DatabaseTimeoutError(ms);
  const reason = `earlier calls were not answered within ${ms} ms, and this job was not sent`;
  return new DatabaseUnreachableError("its address", reason);
}

/** Sends one job. Never rejects. */
function send(db: Queryable, waiting: Waiting): Promise<void> {
  return enqueueOne(db, waiting.job).then(
    (made) => answer(waiting, made),
    (error: unknown) => refuse(waiting, error),
  );
}

/** Sends one job of a call that was refused: given up by itself, and not sent when that has happened already. Never rejects. */
async function sendApart(db: Queryable, waiting: Waiting): Promise<void> {
  if (waiting.isOver) return;
  const abandoned = new AbortController();
  waiting.onGiveUp = (reason) => abandoned.abort(reason);
  await send(withSignal(db, abandoned.signal), waiting);
}

/** False when the call was refused as a whole, and nothing was enqueued. */
async function together(db: Queryable, batch: readonly Waiting[]): Promise<boolean> {
  try {
    const jobs = batch.map(({ job }) => job);
    const made = await enqueueMany(db, jobs);
    for (const [at, waiting] of batch.entries()) answer(waiting, made[at] as MadeJob);
  } catch (error) {
    // Then nobody knows whether it was done: to send it again could do it twice.
    if (!hasCode(error, "DATABASE_UNREACHABLE", "DATABASE_TIMEOUT")) return false;
    for (const waiting of batch) refuse(waiting, error);
  }
  return true;
}

/** Takes as many of those that wait as fit into one call; at least one. */
function takeFitting(waiting: Set<Waiting>): Waiting[] {
  const batch: Waiting[] = [];
  let chars = 0;
  for (const one of waiting) {
    chars += one.job.payload.length;
    if (batch.length > 0 && (batch.length === MOST_JOBS || chars > MOST_CHARS)) break;
    waiting.delete(one);
    batch.push(one);
  }
  return batch;
}
