import { type ErrorDetails, hasCode, isQueueError, QueueError } from "../core/errors.ts";
import { clip, toJobError } from "../core/job-error.ts";
import type { Problem } from "./problem.ts";
import { RequestRefused } from "./request-refused.ts";

/** Throw it for "not now": the job is tried again after a while. */
export class RetryLater extends QueueError {
  override readonly name = "RetryLater";
  readonly code = "RETRY_LATER";
  /** Whole seconds; undefined leaves it to the job's backoff. */
  readonly retryAfterSeconds: number | undefined;

  constructor(message: string, retryAfterSeconds?: number, details?: ErrorDetails) {
    super(message, details);
    const isGood = retryAfterSeconds !== undefined && retryAfterSeconds >= 0;
    this.retryAfterSeconds = isGood ? Math.ceil(Math.min(retryAfterSeconds, DAY)) : undefined;
  }
}

/** Throw it for "never": the job fails for good, however many attempts are left. */
export class Refused extends QueueError {
  override readonly name = "Refused";
  readonly code = "JOB_REFUSED";
}

/** Nobody is asked to wait longer. */
const DAY = 86_400;

/** What a thrown error means for the job: the answer that says so, and the same for a report. */
export interface JobFailure {
  readonly problem: Problem;
  readonly retryable: boolean;
  readonly retryAfterSeconds: number | undefined;
}

/** The meaning of anything that a handler, or what comes before it, can throw. */
export function failureOf(thrown: unknown): JobFailure {
  if (thrown instanceof RequestRefused) return failure(thrown.problem, false);
  const { message, code } = toJobError(thrown);
  const detail = isQueueError(thrown) ? thrown.hint : undefined;
  const problem = {
    code: code !== undefined && /^[A-Z][A-Z0-9_]{2,63}$/.test(code) ? code : "FUNCTION_FAILED",
    title: clip(message === "" ? "The function failed without a message" : message, MOST_BYTES),
    ...(detail !== undefined && { detail }),
  };
  if (hasCode(thrown, "RETRY_LATER")) {
    const seconds = (thrown as RetryLater).retryAfterSeconds;
    const busy = { ...problem, status: 503 };
    if (seconds === undefined) return failure(busy, true);
    return failure({ ...busy, headers: { "retry-after": String(seconds) } }, true, seconds);
  }
  if (hasCode(thrown, "JOB_REFUSED")) return failure({ ...problem, status: 422 }, false);
  if (hasCode(thrown, "LEASE_LOST")) return failure({ ...problem, status: 409 }, false);
  return failure({ ...problem, status: 500 }, true);
}

/** Enough for a sentence; stacks and dumps belong into the function's log. */
const MOST_BYTES = 2_048;

function failure(problem: Problem, retryable: boolean, retryAfterSeconds?: number): JobFailure {
  return { problem, retryable, retryAfterSeconds };
}
