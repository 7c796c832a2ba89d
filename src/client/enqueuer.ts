import { array, refused } from "../core/check-options.ts";
import { checkJob, type Job } from "../core/define-job.ts";
import { InvalidOptionError, InvalidPayloadError } from "../core/errors.ts";
import { enqueueMany, enqueueOne, type MadeJob, type NewJob } from "../db/enqueue-functions.ts";
import type { ResultOptions } from "./await-result.ts";
import type { Caller, CallOptions } from "./call-options.ts";
import { type EnqueueOptions, encodeInput, jobDetails, toNewJob } from "./enqueue-options.ts";
import { buildFlow, type Flow } from "./flow.ts";

/** A job that is durable once the transaction it was enqueued in has committed. */
export interface EnqueuedJob<Output = unknown> {
  readonly id: string;
  /** `existing`: a job with this idempotency key was there already, and this is it. */
  readonly outcome: "created" | "existing";
  /**
   * Waits until the job has ended, and answers its result. Throws JobFailedError with the last error, JobCancelledError,
   * ResultTimeoutError after `timeoutMs` (default 30 s).
   */
  result(options?: ResultOptions): Promise<Output>;
}

/** What can be said of one job, and of the call that makes it. */
export interface EnqueueCallOptions extends EnqueueOptions, CallOptions {}

/**
 * Makes jobs durable, in a transaction of its own or in the caller's.
 *
 * Each call ends within `timeoutMs` (15 s, but without a limit in a caller's transaction). DatabaseTimeoutError then says that nobody
 * knows whether the jobs were made, and so may DatabaseUnreachableError when a connection breaks: with an `idempotencyKey` the same call
 * can be repeated, and makes one job.
 */
export interface Enqueuer {
  /**
   * Enqueues one job. Throws InvalidPayloadError with the path of the fault when the input does not fit the job's schema, or JSON can't
   * keep it; IdempotencyConflictError when its key belongs to a job with another payload. Jobs
   * that are enqueued at the same time, outside of a caller's transaction, share a commit; each succeeds or fails by itself.
   */
  enqueue<Input, Output, Given>(
    job: Job<Input, Output, Given>,
    input: NoInfer<Given>,
    options?: EnqueueCallOptions,
  ): Promise<EnqueuedJob<Output>>;

  /**
   * Enqueues many jobs of one type in one statement: all or none. At most 100,000. Options may differ from job to job; then what holds
   * for the call comes last. An idempotency key must differ, so it takes a function: `(input) => ({ idempotencyKey: input.id })`.
   */
  enqueueMany<Input, Output, Given>(
    job: Job<Input, Output, Given>,
    inputs: readonly NoInfer<Given>[],
    options?: EnqueueCallOptions | ((input: NoInfer<Given>, index: number) => EnqueueOptions),
    call?: CallOptions,
  ): Promise<EnqueuedJob<Output>[]>;

  /** Enqueues jobs that depend on each other in one statement: all or none. Answers what `build` returns. */
  flow<T>(build: (flow: Flow) => T | Promise<T>, call?: CallOptions): Promise<T>;
}

/** How a made job becomes what the caller holds. */
export type ToHandle = (made: MadeJob) => EnqueuedJob;

/** `one` makes a single job. @default a statement of its own */
export function createEnqueuer(
  caller: Caller,
  toHandle: ToHandle,
  one: (job: NewJob, call: CallOptions) => Promise<MadeJob> = (job, call) =>
    caller(call, (db) => enqueueOne(db, job)),
): Enqueuer {
  return {
    async enqueue(job, input, options = {}) {
      const made = await one(await toNewJob(job, input, options), options);
      return toHandle(made) as EnqueuedJob<never>;
    },
    async enqueueMany(job, inputs, options = {}, call) {
      checkJob(job);
      const jobs: NewJob[] = [];
      // What holds for all is looked at once, and nothing is awaited that is there already: there may be many.
      const detailsOf = toDetails(job, options, array("inputs", inputs).length);
      for (const [index, input] of inputs.entries()) {
        const encoded = atIndex(index, () => encodeInput(job, input));
        const payload = typeof encoded === "string" ? encoded : await encoded;
        jobs.push({ ...detailsOf(input, index), payload });
      }
      const limits = call ?? (typeof options === "function" ? {} : options);
      const made = jobs.length === 0 ? [] : await caller(limits, (db) => enqueueMany(db, jobs));
      return made.map(toHandle) as EnqueuedJob<never>[];
    },
    flow: (build, call) =>
      buildFlow((jobs) => caller(call, (db) => enqueueMany(db, jobs)), toHandle, build),
  };
}

function toDetails<Input>(
  job: Job,
  options: EnqueueOptions | ((input: Input, index: number) => EnqueueOptions),
  count: number,
): (input: Input, index: number) => Omit<NewJob, "payload"> {
  if (typeof options === "function") {
    return (input, index) => {
      const own = options(input, index);
      try {
        return jobDetails(job, own);
      } catch (error) {
        if (!(error instanceof InvalidOptionError)) throw error;
        throw new InvalidOptionError(`[${index}].${error.option}`, error.reason, { cause: error });
      }
    };
  }
  if (options.idempotencyKey !== undefined && count > 1) {
    throw refused(
      "idempotencyKey",
      `must not be the same for ${count} jobs`,
      options.idempotencyKey,
    );
  }
  const details = jobDetails(job, options);
  return () => details;
}

/** Names the element that an error is about. */
function atIndex<T>(index: number, check: () => T | Promise<T>): T | Promise<T> {
  const located = (error: unknown): never => {
    if (!(error instanceof InvalidPayloadError)) throw error;
    throw new InvalidPayloadError(
      `[${index}]${error.path === "" || error.path.startsWith("[") ? "" : "."}${error.path}`,
      error.reason,
      { cause: error },
    );
  };
  try {
    const checked = check();
    return checked instanceof Promise ? checked.catch(located) : checked;
  } catch (error) {
    return located(error);
  }
}
