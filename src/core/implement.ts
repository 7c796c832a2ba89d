import { refused, wholeNumber } from "./check-options.ts";
import { checkJob, type Job } from "./define-job.ts";
import type { BatchContext, HandlerContext } from "./handler.ts";
import type { Outcome } from "./outcomes.ts";

/** A job type together with the code that performs it; what `createWorker` takes as `handlers`. */
export type Implementation = SingleImplementation | BatchImplementation;

export interface SingleImplementation {
  readonly kind: "single";
  readonly job: Job;
  readonly handle: (context: HandlerContext) => unknown;
}

export interface BatchImplementation {
  readonly kind: "batch";
  readonly job: Job;
  readonly handle: (context: BatchContext) => unknown;
  readonly maxSize: number;
}

/** What a handler may return: the result, or another way to end the attempt. */
export type Returned<Output> = Output | Outcome;

/** What a batch handler may return: an entry for each job, nothing, or one outcome for all. */
export type ReturnedByBatch<Output> = readonly Returned<Output>[] | Outcome | undefined;

/**
 * Says how jobs of a type are performed. Returning completes the job with that result, throwing fails the attempt, and `snooze`,
 * `discard` and `fail` make values for the other ends.
 */
export function implement<Input, Output, Given>(
  job: Job<Input, Output, Given>,
  handle: (context: HandlerContext<Input, Output>) => Promise<Returned<Output>> | Returned<Output>,
): SingleImplementation {
  checkHandler(job, handle);
  return {
    kind: "single",
    job,
    handle: handle as SingleImplementation["handle"],
  };
}

/** More would make one claim larger than the database likes. */
const MOST_AT_ONCE = 10_000;

export interface BatchOptions {
  /** The most jobs that one call gets. @default 100 */
  readonly maxSize?: number;
}

/**
 * Says how several jobs of a type are performed at once. The handler returns an array with one entry for each job, in the same
 * order: a result, or an outcome. Returning nothing completes all, one outcome ends all in this way, and throwing
 * fails all.
 */
export function implementBatch<Input, Output, Given>(
  job: Job<Input, Output, Given>,
  handle: (
    context: BatchContext<Input, Output>,
  ) => Promise<ReturnedByBatch<Output>> | ReturnedByBatch<Output>,
  { maxSize = 100 }: BatchOptions = {},
): BatchImplementation {
  checkHandler(job, handle);
  wholeNumber("maxSize", maxSize, 1, MOST_AT_ONCE);
  return {
    kind: "batch",
    job,
    handle: handle as BatchImplementation["handle"],
    maxSize,
  };
}

/** A typo or a circular import makes it undefined, and every job would seem to be done. */
function checkHandler(job: Job, handle: unknown): void {
  checkJob(job);
  if (typeof handle !== "function") {
    throw refused("handle", `must be a function, for jobs of type "${job.type}"`, handle);
  }
}
