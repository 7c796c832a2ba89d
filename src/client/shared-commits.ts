import { hasCode } from "../core/errors.ts";
import { turn } from "../core/turn.ts";
import { enqueueMany, enqueueOne, type MadeJob, type NewJob } from "../db/enqueue-functions.ts";
import type { Queryable } from "../db/sql.ts";

/** The most of one call, in jobs and in characters of payload. */
const MOST_JOBS = 500;
const MOST_CHARS = 4 * 1024 * 1024;

interface Waiting {
  readonly job: NewJob;
  readonly resolve: (made: MadeJob) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Lets jobs that are enqueued at the same time share a statement and its commit. Nobody waits for company longer than for a turn of
 * the event loop; what comes while a call is under way gathers, so the more there is to do, the larger the batches. Each caller gets
 * the answer for its own job: when a shared call is refused, its jobs are sent one by one.
 *
 * The turn lets those in who enqueue their next job as soon as the last one is answered. Without it ten such callers fall into two
 * groups that wait for each other, of one and of nine.
 *
 * Only jobs of one type, queue and tenant are put together, and none with a key or with parents: a call may have to wait for another
 * transaction that is just making a new name or key, and nobody shall wait who would not have to wait alone.
 */
export class SharedCommits {
  readonly #db: Queryable;
  /** What gathers behind the call that is under way, by what the jobs have in common. */
  readonly #gathering = new Map<string, Waiting[]>();

  constructor(db: Queryable) {
    this.#db = db;
  }

  enqueue(job: NewJob): Promise<MadeJob> {
    if (job.idempotencyKey !== undefined || job.dependsOn !== undefined) {
      return enqueueOne(this.#db, job);
    }
    return new Promise((resolve, reject) => {
      const key = JSON.stringify([job.type, job.queue, job.tenantId]);
      const waiting = this.#gathering.get(key);
      if (waiting) waiting.push({ job, resolve, reject });
      else void this.#send(key, { job, resolve, reject });
    });
  }

  /** Never rejects. */
  async #send(key: string, first: Waiting): Promise<void> {
    const waiting = [first];
    this.#gathering.set(key, waiting);
    while (waiting.length > 0) {
      await turn();
      await this.#call(waiting.splice(0, fitting(waiting)));
    }
    this.#gathering.delete(key);
  }

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
      if (!hasCode(error, "DATABASE_UNREACHABLE")) return false;
      for (const { reject } of batch) reject(error);
    }
    return true;
  }
}

/** How many of those that wait fit into one call; at least one. */
function fitting(waiting: readonly Waiting[]): number {
  let chars = 0;
  const end = waiting.findIndex(({ job }, at) => {
    chars += job.payload.length;
    return at > 0 && (at === MOST_JOBS || chars > MOST_CHARS);
  });
  return end === -1 ? waiting.length : end;
}
