import type { Clock } from "../core/clock.ts";
import { DatabaseUnreachableError } from "../core/database-errors.ts";
import { enqueueMany, enqueueOne, type MadeJob, type NewJob } from "../db/enqueue-functions.ts";
import type { Queryable } from "../db/sql.ts";

/** Calls under way at a time: what comes meanwhile gathers, so the more there is to do, the larger the batches. */
const MOST_CALLS = 1;
/** A call that takes longer waits for somebody else's lock, and nobody shall wait with it. */
const SLOW_MS = 100;
/** The most of one call, in jobs and in characters of payload. */
const MOST_JOBS = 500;
const MOST_CHARS = 4 * 1024 * 1024;

interface Waiting {
  readonly job: NewJob;
  readonly resolve: (made: MadeJob) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Lets jobs that are enqueued at the same time share a statement and its commit. A job that comes alone is sent at once, so nobody
 * waits for company; only what comes while calls are under way is put together. Each caller gets the answer for its own job:
 * when a shared call is refused, its jobs are sent one by one.
 */
export class SharedCommits {
  readonly #db: Queryable;
  readonly #clock: Clock;
  #waiting: Waiting[] = [];
  #calls = 0;

  constructor(db: Queryable, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  enqueue(job: NewJob): Promise<MadeJob> {
    // These may have to wait for another transaction to end.
    if (job.idempotencyKey !== undefined || job.dependsOn !== undefined) {
      return enqueueOne(this.#db, job);
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ job, resolve, reject });
      this.#send();
    });
  }

  #send(): void {
    while (this.#calls < MOST_CALLS && this.#waiting.length > 0) {
      this.#calls += 1;
      const batch = this.#waiting.splice(0, this.#fitting());
      let isFree = false;
      const free = (): void => {
        if (isFree) return;
        isFree = true;
        cancel();
        this.#calls -= 1;
        this.#send();
      };
      const cancel = this.#clock.setTimer(free, SLOW_MS);
      void this.#call(batch).then(free);
    }
  }

  /** How many of those that wait fit into one call; at least one. */
  #fitting(): number {
    let chars = 0;
    const end = this.#waiting.findIndex(({ job }, at) => {
      chars += job.payload.length;
      return at > 0 && (at === MOST_JOBS || chars > MOST_CHARS);
    });
    return end === -1 ? this.#waiting.length : end;
  }

  /** Never rejects. */
  async #call(batch: readonly Waiting[]): Promise<void> {
    if (batch.length > 1 && (await this.#together(batch))) return;
    await Promise.all(
      batch.map(({ job, resolve, reject }) => enqueueOne(this.#db, job).then(resolve, reject)),
    );
  }

  /** False when the call was refused as a whole, and nothing was enqueued. */
  async #together(batch: readonly Waiting[]): Promise<boolean> {
    try {
      const made = await enqueueMany(
        this.#db,
        batch.map(({ job }) => job),
      );
      for (const [at, { resolve }] of batch.entries()) resolve(made[at] as MadeJob);
    } catch (error) {
      // Then nobody knows whether it was done: to send it again could do it twice.
      if (!(error instanceof DatabaseUnreachableError)) return false;
      for (const { reject } of batch) reject(error);
    }
    return true;
  }
}
