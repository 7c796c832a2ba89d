import type { JsonValue } from "./json.ts";
import type { Logger } from "./logger.ts";

/** Which try this is: number 1 is the first; `max` counts the first and all retries. */
export interface AttemptNumber {
  readonly number: number;
  readonly max: number;
}

/** A finished job that this one waited for. */
export interface ParentResult {
  readonly id: string;
  readonly type: string;
  readonly status: string;
  readonly result: unknown;
}

/** The open transaction that `commitWith` gives to its function. */
export interface HandlerTransaction {
  /** Runs one statement; parameters are `$1`, `$2` … */
  query(
    text: string,
    params?: readonly (string | number | boolean | null)[],
  ): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** The driver's own transaction handle (postgres.js, node-postgres), for queries in its style. */
  readonly driver: unknown;
}

/** All that a handler gets: its input, who it is, and what it may ask for. */
export interface HandlerContext<Input = unknown, Output = unknown> {
  readonly input: Input;
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly tenantId: string | null;
  readonly attempt: AttemptNumber;
  /** Aborts on timeout, on cancellation, when the lease is lost and when the worker stops; `reason` says which. */
  readonly signal: AbortSignal;
  /** The worker's logger, with job id, type and attempt added. */
  readonly log: Logger;
  /** Tells how far the work is, 0 to 100. Written at most twice a second; the newest wins. */
  progress(percent: number, message?: string, data?: JsonValue): void;
  /** Kept with this attempt in the job's history, however it ends; the last one counts. At most 16 KiB of JSON. */
  note(data: JsonValue): void;
  /** The results of the jobs that this one waited for. */
  parents(): Promise<readonly ParentResult[]>;
  /**
   * Runs `work` and completes the job in one transaction: both happen, exactly once, or neither. What `work` returns is the job's
   * result; what the handler returns afterwards is ignored. Throws LeaseLostError, and rolls back, when the lease is lost.
   */
  commitWith(work: (tx: HandlerTransaction) => Promise<Output | undefined> | Output): Promise<void>;
  /** Names this attempt to whoever reports on it from elsewhere: its job, and the lease that it runs under. */
  readonly claim: Claim;
  /**
   * Passes the job on to somebody who tells its end by `queue.answer_call`, within so many milliseconds. What the handler returns or throws
   * afterwards is ignored. Throws LeaseLostError when the lease is lost.
   */
  handOver(withinMs: number): Promise<void>;
}

/** One try at one job: a claim. */
export interface Claim {
  readonly jobId: string;
  readonly leaseId: string;
}

/** One job of a batch. */
export type BatchItem<Input = unknown, Output = unknown> = Omit<
  HandlerContext<Input, Output>,
  "commitWith"
>;

/** What a batch handler gets: several jobs of one type, and one signal for the batch as a whole. */
export interface BatchContext<Input = unknown, Output = unknown> {
  readonly type: string;
  readonly jobs: readonly BatchItem<Input, Output>[];
  /** Aborts when none of the jobs needs to go on, on timeout, and when the worker stops. */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/**
 * Wraps every run of a handler: call `next` to go on, look at what it returns or throws, change either.
 *
 * What it returns takes the place of the handler's result; what it throws fails the attempt.
 */
export type Middleware = (
  context: HandlerContext,
  next: () => Promise<unknown>,
) => Promise<unknown>;
