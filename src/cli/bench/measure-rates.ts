import { createQueue } from "../../client/create-queue.ts";
import { raceSignal } from "../../core/signals.ts";
import type { Sql } from "../../db/sql.ts";
import { benchJob, whileWorking } from "./bench-job.ts";
import type { Rate } from "./figures.ts";

/** What every measure of a rate needs. */
export interface RateRequest {
  readonly sql: Sql;
  readonly jobs: number;
  readonly stop: AbortSignal;
  /** Told how many jobs are done. */
  readonly onProgress: (done: number) => void;
}

/** Jobs of one call in bulk, as `millrace enqueue --file` sends them. */
export const BULK_JOBS = 1_000;

/** Enqueues jobs many at a time, one call after the other. */
export async function enqueueBulk({ sql, jobs, stop, onProgress }: RateRequest): Promise<Rate> {
  const queue = createQueue({ sql });
  const startedAt = performance.now();
  for (let from = 0; from < jobs; from += BULK_JOBS) {
    const count = Math.min(BULK_JOBS, jobs - from);
    const inputs = Array.from({ length: count }, (_, index) => ({ n: from + index }));
    await raceSignal(queue.enqueueMany(benchJob, inputs), stop);
    onProgress(from + count);
  }
  return { jobs, elapsedMs: performance.now() - startedAt };
}

/** Producers that enqueue one job after the other, all in this process. */
export const PRODUCERS = 10;

/** Enqueues jobs one by one, each awaited, by several producers at a time. */
export async function enqueueOneByOne({ sql, jobs, stop, onProgress }: RateRequest): Promise<Rate> {
  const queue = createQueue({ sql });
  let next = 0;
  let done = 0;
  const produce = async (): Promise<void> => {
    while (next < jobs) {
      const n = next;
      next += 1;
      await queue.enqueue(benchJob, { n });
      done += 1;
      onProgress(done);
    }
  };
  const startedAt = performance.now();
  try {
    await raceSignal(Promise.all(Array.from({ length: PRODUCERS }, produce)), stop);
  } finally {
    // Cut short by a signal, or by one that failed, the others shall not go on.
    next = jobs;
  }
  return { jobs, elapsedMs: performance.now() - startedAt };
}

/** So many jobs between two tellings: each one would cost the drain something. */
const TELL_EVERY = 100;

/** Runs the jobs numbered from 0 on with one worker, from its start until all of them are written as completed. */
export async function drain(
  request: RateRequest & { readonly concurrency: number },
): Promise<Rate> {
  const { sql, jobs, concurrency, stop, onProgress } = request;
  const ran = new Uint8Array(jobs);
  let done = 0;
  let finish: () => void = () => undefined;
  const allRan = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const onStart = (n: number): void => {
    // A job may run twice; it counts once.
    if (ran[n] !== 0) return;
    ran[n] = 1;
    done += 1;
    if (done % TELL_EVERY === 0) onProgress(done);
    if (done === jobs) finish();
  };
  const startedAt = performance.now();
  await whileWorking({ sql, concurrency, onStart, stop }, (signal) => raceSignal(allRan, signal));
  return { jobs, elapsedMs: performance.now() - startedAt };
}
