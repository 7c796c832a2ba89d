import { ERROR, hasBrand } from "./brand.ts";

/** What an error can carry besides its sentence. */
export interface ErrorDetails {
  readonly cause?: unknown;
  /** How to mend it, as a sentence. */
  readonly hint?: string | undefined;
  /** The particulars, such as the value that was refused. */
  readonly detail?: string | undefined;
}

/** Every error this library throws on purpose. Tell them apart by `code`, never by message. */
export abstract class QueueError extends Error {
  abstract readonly code: string;
  readonly hint: string | undefined;
  readonly detail: string | undefined;

  constructor(message: string, { cause, hint, detail }: ErrorDetails = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.hint = hint;
    this.detail = detail;
  }
}

// Not on each error: it would be printed with it.
Object.defineProperty(QueueError.prototype, ERROR, { value: true });

/** An error of this library, of whichever copy. Never throws. */
export function isQueueError(error: unknown): error is QueueError {
  return hasBrand(error, ERROR);
}

/** An error of this library with that code, of whichever copy: what `instanceof` can't tell when the package is loaded twice. */
export function hasCode(error: unknown, ...codes: readonly string[]): error is QueueError {
  return isQueueError(error) && codes.includes(error.code);
}

/** An option has a value that is not allowed. */
export class InvalidOptionError extends QueueError {
  override readonly name = "InvalidOptionError";
  readonly code = "INVALID_OPTION";
  readonly option: string;
  readonly reason: string;

  constructor(option: string, reason: string, details: ErrorDetails = {}) {
    super(`Option "${option}" is invalid: ${reason}`, details);
    this.option = option;
    this.reason = reason;
  }
}

/** A job's input does not fit its schema, or cannot be stored as JSON. Trying again does not help. */
export class InvalidPayloadError extends QueueError {
  override readonly name = "InvalidPayloadError";
  readonly code = "INVALID_PAYLOAD";
  /** Where the fault is, such as `items[2].email`; empty for the payload as a whole. */
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string, details: ErrorDetails = {}) {
    super(`Payload is invalid${path === "" ? "" : ` at ${path}`}: ${reason}`, details);
    this.path = path;
    this.reason = reason;
  }
}

/** A handler returned something that does not fit the output schema, or cannot be stored as JSON. */
export class InvalidResultError extends QueueError {
  override readonly name = "InvalidResultError";
  readonly code = "INVALID_RESULT";
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string, details: ErrorDetails = {}) {
    super(`Result is invalid${path === "" ? "" : ` at ${path}`}: ${reason}`, details);
    this.path = path;
    this.reason = reason;
  }
}

/** Parents of a job don't exist, or jobs wait for each other in a circle. */
export class InvalidDependencyError extends QueueError {
  override readonly name = "InvalidDependencyError";
  readonly code = "INVALID_DEPENDENCY";
}

/** Another job has the idempotency key, and its payload is not the same. */
export class IdempotencyConflictError extends QueueError {
  override readonly name = "IdempotencyConflictError";
  readonly code = "IDEMPOTENCY_CONFLICT";
  /** The job that has the key. */
  readonly jobId: string;

  constructor(message: string, jobId: string, details: ErrorDetails = {}) {
    super(message, details);
    this.jobId = jobId;
  }
}

/** No job has this id. */
export class UnknownJobError extends QueueError {
  override readonly name = "UnknownJobError";
  readonly code = "UNKNOWN_JOB";
  readonly jobId: string;

  constructor(jobId: string) {
    super(`Job ${jobId} does not exist`, { hint: "It may have been removed by retention." });
    this.jobId = jobId;
  }
}

/** No queue has this name. */
export class UnknownQueueError extends QueueError {
  override readonly name = "UnknownQueueError";
  readonly code = "UNKNOWN_QUEUE";
}

/** A worker was given a job of a type it has no handler for. */
export class NoHandlerError extends QueueError {
  override readonly name = "NoHandlerError";
  readonly code = "NO_HANDLER";

  constructor(type: string) {
    super(`This worker has no handler for jobs of type "${type}"`);
  }
}

/** What is kept of an attempt's error: always valid JSON, texts of at most 8 KiB. */
export interface JobErrorJson {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly code?: string;
  readonly cause?: JobErrorJson;
  readonly errors?: readonly JobErrorJson[];
}

/** The awaited job ended as failed: it is in the dead letters. */
export class JobFailedError extends QueueError {
  override readonly name = "JobFailedError";
  readonly code = "JOB_FAILED";
  readonly jobId: string;
  /** How many attempts were made. */
  readonly attempts: number;
  /** The last attempt's error. */
  readonly error: JobErrorJson | undefined;

  constructor(jobId: string, attempts: number, error: JobErrorJson | undefined) {
    const times = attempts === 1 ? "1 attempt" : `${attempts} attempts`;
    super(`Job ${jobId} failed after ${times}${error ? `: ${error.message}` : ""}`);
    this.jobId = jobId;
    this.attempts = attempts;
    this.error = error;
  }
}

/** The job was cancelled: given to who awaits it, and as the reason of a running handler's signal. */
export class JobCancelledError extends QueueError {
  override readonly name = "JobCancelledError";
  readonly code = "JOB_CANCELLED";
  readonly jobId: string;

  constructor(jobId: string, reason?: string) {
    super(`Job ${jobId} was cancelled${reason ? `: ${reason}` : ""}`);
    this.jobId = jobId;
  }
}

/** The awaited job did not end in time. The job itself goes on. */
export class ResultTimeoutError extends QueueError {
  override readonly name = "ResultTimeoutError";
  readonly code = "RESULT_TIMEOUT";
  readonly jobId: string;
  readonly timeoutMs: number;

  constructor(jobId: string, timeoutMs: number) {
    super(`Job ${jobId} did not end within ${timeoutMs} ms`, {
      hint: "The job goes on; ask again.",
    });
    this.jobId = jobId;
    this.timeoutMs = timeoutMs;
  }
}

/** The right to run this attempt is gone: another worker may have the job. Stop, and change nothing. */
export class LeaseLostError extends QueueError {
  override readonly name = "LeaseLostError";
  readonly code = "LEASE_LOST";
  readonly jobId: string;

  /** `why` is what led to it, as far as this worker knows. */
  constructor(jobId: string, why?: string) {
    super(`The lease of job ${jobId} is lost${why === undefined ? "" : `: ${why}`}`);
    this.jobId = jobId;
  }
}

/** `commitWith` was called a second time: a job is completed once. */
export class AlreadyCommittedError extends QueueError {
  override readonly name = "AlreadyCommittedError";
  readonly code = "ALREADY_COMMITTED";
}

/** An attempt took longer than its job allows. It counts as failed and is tried again. */
export class JobTimeoutError extends QueueError {
  override readonly name = "JobTimeoutError";
  readonly code = "JOB_TIMEOUT";
  readonly jobId: string;
  readonly timeoutMs: number;

  constructor(jobId: string, timeoutMs: number) {
    super(`Job ${jobId} ran longer than ${timeoutMs} ms`);
    this.jobId = jobId;
    this.timeoutMs = timeoutMs;
  }
}

/** The worker stops. The attempt is given back and does not count; that of a job which may run only once fails with this error. */
export class ShutdownError extends QueueError {
  override readonly name = "ShutdownError";
  readonly code = "SHUTDOWN";

  constructor(message = "The worker is shutting down", details: ErrorDetails = {}) {
    super(message, details);
  }
}

/** A worker was asked for something that its state does not allow. */
export class WorkerStateError extends QueueError {
  override readonly name = "WorkerStateError";
  readonly code = "WORKER_STATE";
}
