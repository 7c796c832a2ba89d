import type { Clock } from "../core/clock.ts";
import { DatabaseTimeoutError, DatabaseUnreachableError } from "../core/database-errors.ts";
import { hasCode } from "../core/errors.ts";
import { turn } from "../core/turn.ts";
import { enqueueMany, enqueueOne, type MadeJob, type NewJob } from "../db/enqueue-functions.ts";
import type { Queryable } from "../db/sql.ts";
import { type CallOptions, callerOf, timeoutOf, withSignal } from "./call-options.ts";

/** The most of one call, in jobs and in characters of payload. */
const MOST_JOBS = 500;
const MOST_CHARS = 4 * 1024 * 1024;
/** A call that takes longer does not hold up the next: it may wait for a connection that is gone. */
const SLOW_MS = 100;
/** Calls that are under way at a time, of jobs that have the same in common. */
const MOST_CALLS = 4;

/** Jobs that have a type, queue and tenant in common. */
interface Group {
  readonly waiting: Set<Waiting>;
  calls: number;
  isSending: boolean;
  /** Ends the wait for a call to end. */
  onEnd: () => void;
}

/**
 * Lets jobs that are enqueued at the same time share a statement and its commit. Nobody waits for company longer than for a turn of
 * the event loop; what comes while a call is under way gathers, so the more there is to do, the larger the batches. Each caller gets
 * the answer for its own job: when a shared call is refused, its jobs are sent one by one. Each waits for as long as it wants to.
 *
 * The turn lets those in who enqueue their next job as soon as the last one is answered. Without it ten such callers fall into two
 * groups that wait for each other, of one and of nine.
 *
 * Only jobs of one type, queue and tenant are put together, and none with a key or with parents: a call may have to wait for another
 * transaction that is just making a new name or key, and nobody shall wait who would not have to wait alone.
 */
export class SharedCommits {
  readonly #db: Queryable;
  readonly #clock: Clock;
  /** What gathers behind the call that is under way, by what the jobs have in common. */
  readonly #groups = new Map<string, Group>();

  constructor(db: Queryable, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  enqueue(job: NewJob, options: CallOptions): Promise<MadeJob> {
    if (job.idempotencyKey !== undefined || job.dependsOn !== undefined) {
      return callerOf(this.#db, this.#clock)(options, (db) => enqueueOne(db, job));
    }
    if (options.signal?.aborted) return Promise.reject(options.signal.reason);
    const waiting = new Waiting(job, timeoutOf(options), options.signal, this.#clock);
    const key = JSON.stringify([job.type, job.queue, job.tenantId]);
    const group = this.#groups.get(key) ?? {
      waiting: new Set(),
      calls: 0,
      isSending: false,
      onEnd,
    };
    this.#groups.set(key, group);
    waiting.join(group.waiting);
    if (!group.isSending) void this.#send(key, group);
    return waiting.promise;
  }

  /** Never rejects. */
  async #send(key: string, group: Group): Promise<void> {
    group.isSending = true;
    while (group.waiting.size > 0) {
      await turn();
      while (group.calls >= MOST_CALLS) await nextEnd(group);
      const batch = takeFitting(group.waiting);
      if (batch.length === 0) continue;
      group.calls += 1;
      const call = this.#call(batch).then(() => {
        group.calls -= 1;
        group.onEnd();
        if (group.calls === 0 && !group.isSending) this.#groups.delete(key);
      });
      await this.#endOrSlow(call);
    }
    group.isSending = false;
    if (group.calls === 0) this.#groups.delete(key);
  }

  /** Waits until the call has ended; if that takes long, only until another may go out beside it. */
  #endOrSlow(call: Promise<void>): Promise<void> {
    return new Promise<void>((resolve) => {
      const cancel = this.#clock.setTimer(resolve, SLOW_MS);
      void call.then(() => {
        cancel();
        resolve();
      });
    });
  }

  /** Never rejects. */
  async #call(batch: readonly Waiting[]): Promise<void> {
    // Given up when nobody waits for it any more.
    const abandoned = new AbortController();
    let left = batch.length;
    for (const waiting of batch) {
      waiting.onGiveUp = (reason) => {
        left -= 1;
        if (left === 0) abandoned.abort(reason);
      };
    }
    const db = withSignal(this.#db, abandoned.signal);
    if (batch.length > 1 && (await together(db, batch))) return;
    await Promise.all(
      batch.map((waiting) => enqueueOne(db, waiting.job).then(waiting.resolve, waiting.reject)),
    );
  }
}

function onEnd(): void {
  // Nobody waits for the end of a call.
}

function nextEnd(group: Group): Promise<void> {
  return new Promise((resolve) => {
    group.onEnd = resolve;
  });
}

/** One job, and who waits for it. */
class Waiting {
  readonly job: NewJob;
  readonly promise: Promise<MadeJob>;
  resolve: (made: MadeJob) => void = () => undefined;
  reject: (error: unknown) => void = () => undefined;
  /** Called when the job was sent and its caller does not wait any longer. */
  onGiveUp: ((reason: unknown) => void) | undefined;
  #line: Set<Waiting> | undefined;

  constructor(job: NewJob, ms: number, signal: AbortSignal | undefined, clock: Clock) {
    this.job = job;
    const cancel = clock.setTimer(() => this.#giveUp(this.#lateness(ms)), ms);
    const onAbort = (): void => this.#giveUp(signal?.reason);
    const done = (): void => {
      cancel();
      signal?.removeEventListener("abort", onAbort);
    };
    this.promise = new Promise((resolve, reject) => {
      this.resolve = (made) => {
        done();
        resolve(made);
      };
      this.reject = (error) => {
        done();
        reject(error);
      };
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  }

  join(line: Set<Waiting>): void {
    this.#line = line;
    line.add(this);
  }

  #giveUp(reason: unknown): void {
    this.#line?.delete(this);
    this.reject(reason);
    this.onGiveUp?.(reason);
  }

  #lateness(ms: number): Error {
    if (this.onGiveUp) return new DatabaseTimeoutError(ms);
    const reason = `earlier calls were not answered within ${ms} ms, and this job was not sent`;
    return new DatabaseUnreachableError("its address", reason);
  }
}

/** False when the call was refused as a whole, and nothing was enqueued. */
async function together(db: Queryable, batch: readonly Waiting[]): Promise<boolean> {
  try {
    const jobs = batch.map(({ job }) => job);
    const made = await enqueueMany(db, jobs);
    for (const [at, { resolve }] of batch.entries()) resolve(made[at] as MadeJob);
  } catch (error) {
    // Then nobody knows whether it was done: to send it again could do it twice.
    if (!hasCode(error, "DATABASE_UNREACHABLE", "DATABASE_TIMEOUT")) return false;
    for (const { reject } of batch) reject(error);
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
