import type { Clock } from "../core/clock.ts";
import { JobCancelledError, LeaseLostError, ShutdownError } from "../core/errors.ts";
import { parseOutput } from "../core/input.ts";
import { toJobError } from "../core/job-error.ts";
import { encodeResult, storableText } from "../core/json.ts";
import type { Logger } from "../core/logger.ts";
import { type ReadOutcome, readOutcome } from "../core/outcomes.ts";
import type { SettledOutcome, SettlementDetail } from "../db/attempt-functions.ts";
import type { Attempt } from "./attempt.ts";
import type { Deadlines } from "./deadlines.ts";
import type { Events } from "./events.ts";
import type { Lease, LeaseBook } from "./lease-book.ts";
import type { Settlements } from "./settlements.ts";

export interface VerdictParts {
  readonly book: LeaseBook;
  readonly settlements: Settlements;
  readonly deadlines: Deadlines;
  readonly events: Events;
  /** What led to the loss of a lease, where this worker knows. */
  readonly whyLost: () => string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How long a handler may take to react to a cancellation. */
const CANCEL_GRACE_MS = 10_000;
/** How much later than others' answers that of a commit may come. */
const COMMIT_GRACE_MS = 1_000;

/** Plain words only, for what could not be told in any others. */
const UNTELLABLE = {
  name: "NonError",
  message: "The attempt ended with something that cannot be told",
};

/** Decides how attempts end. The first decision stands: what a handler does after it changes nothing. */
export class Verdicts {
  readonly #parts: VerdictParts;
  /** Jobs given back so far. */
  released = 0;

  constructor(parts: VerdictParts) {
    this.#parts = parts;
  }

  /** The handler returned: a result, or an outcome. The answer is a promise only if an asynchronous schema has to look at it. */
  returned(attempt: Attempt, value: unknown): Promise<void> | undefined {
    if (attempt.state !== "running") return undefined;
    const outcome = readOutcome(value);
    if (outcome) this.#decide(attempt, outcome);
    else if (!attempt.route.job.output) this.#complete(attempt, value);
    else return this.#check(attempt, value);
    return undefined;
  }

  /** The handler threw, or its input did not fit. */
  threw(attempt: Attempt, error: unknown): void {
    if (attempt.state !== "running") return;
    if (attempt.isCommitted) {
      const { id: jobId, type } = attempt;
      this.#parts.logger.warn("job.threw_after_commit", { jobId, type, error });
    }
    if (attempt.stopReason === "cancelled") this.end(attempt, "cancelled", {});
    else if (attempt.stopReason === "shutdown") this.interrupt(attempt, error);
    else if (couldNotBegin(attempt, error)) this.#postpone(attempt);
    else {
      const outcome = readOutcome(error);
      if (outcome) this.#decide(attempt, outcome);
      else this.#fail(attempt, error);
    }
  }

  /** Something went wrong while the end of an attempt was told: it ends as failed, with whatever words are left. Never throws. */
  crashed(attempt: Attempt, error: unknown): void {
    this.#parts.logger.error("job.end_failed", { jobId: attempt.id, type: attempt.type, error });
    try {
      if (attempt.state !== "ended") this.#fail(attempt, error);
    } catch {
      attempt.state = "ended";
      this.#parts.settlements.add(attempt, "failed", { error: UNTELLABLE, retryable: true });
    }
  }

  #fail(attempt: Attempt, error: unknown): void {
    const retryable = attempt.fault === undefined || attempt.fault !== error;
    this.end(attempt, "failed", { error: toJobError(error), retryable });
  }

  /** The handler completed the job itself, in the transaction of its own writes. */
  committed(attempt: Attempt): void {
    const { book, events, clock, settlements } = this.#parts;
    attempt.isCommitted = true;
    attempt.elapsedMs = clock.now() - attempt.startedAt;
    settlements.breakUp(attempt.lease);
    book.close(attempt);
    events.ended(attempt, { kind: "completed" });
  }

  /** The handler passed the job on to somebody who tells its end. */
  handedOver(attempt: Attempt): void {
    const { book, events, clock, settlements } = this.#parts;
    attempt.isCommitted = true;
    attempt.elapsedMs = clock.now() - attempt.startedAt;
    settlements.breakUp(attempt.lease);
    book.close(attempt);
    events.ended(attempt, { kind: "handed_over" });
  }

  /**
   * Somebody wants this job cancelled: its handler is told. If it throws, the job ends as cancelled; if it returns all the same, the
   * work is done and the job is completed. A handler that does neither is not waited for.
   */
  cancel(attempt: Attempt): void {
    const { clock, deadlines } = this.#parts;
    if (attempt.state === "buffered") this.end(attempt, "cancelled", {});
    if (attempt.state !== "running" || attempt.isAborted) return;
    attempt.abort("cancelled", new JobCancelledError(attempt.id));
    deadlines.add({
      deadlineAt: clock.now() + CANCEL_GRACE_MS,
      expire: () => this.end(attempt, "cancelled", {}),
    });
  }

  /** The database says that a lease is gone. What of it has ended is on its way there, and will be judged. */
  loseAll(lease: Lease): void {
    lease.isLost = true;
    for (const attempt of lease.attempts) if (attempt.state !== "ended") this.miss(attempt);
  }

  /**
   * A lease could not be extended in time, and nobody knows whether it is still ours. Handlers are told to stop; what has not begun is
   * given back, for which the database judges by itself whether it was still ours to give.
   */
  expire(lease: Lease): void {
    lease.isLost = true;
    for (const attempt of lease.attempts) {
      if (attempt.state === "buffered") this.giveBack(attempt);
      else if (attempt.state === "running") this.lose(attempt);
    }
  }

  /**
   * The database does not know this attempt any more. Where its handler commits together with the completion that may be its own doing:
   * then the answer to the commit is awaited, for a moment.
   */
  miss(attempt: Attempt): void {
    const { clock, deadlines } = this.#parts;
    if (!attempt.isCommitting) {
      this.lose(attempt);
      return;
    }
    deadlines.add({
      deadlineAt: clock.now() + COMMIT_GRACE_MS,
      expire: () => {
        if (attempt.isCommitting) this.lose(attempt);
      },
    });
  }

  /** The lease is gone: nothing of this attempt may be written any more. */
  lose(attempt: Attempt): void {
    const { book, events, settlements } = this.#parts;
    if (attempt.isClosed) return;
    settlements.breakUp(attempt.lease);
    book.close(attempt);
    if (attempt.state === "ended") return;
    this.#stop(attempt);
    const reason = this.#parts.whyLost();
    attempt.abort("lost", new LeaseLostError(attempt.id, reason));
    events.ended(attempt, { kind: "lost", ...(reason !== undefined && { reason }) });
  }

  /** Gives a job back that has not started, without using up its attempt. */
  giveBack(attempt: Attempt): void {
    if (attempt.state === "buffered") this.end(attempt, "released", {});
  }

  /**
   * The worker stops, and waits for this attempt no longer. It is given back without using up the attempt, unless it may run only once
   * and has begun: then nobody knows how far it came, and it fails for good.
   */
  interrupt(attempt: Attempt, cause?: unknown): void {
    if (!attempt.mayRunOnce || !attempt.isBegun) {
      this.end(attempt, "released", {});
      return;
    }
    const error = new ShutdownError(
      "The worker stopped before the handler had ended, and the job may run only once (max_retries 0)",
      { cause },
    );
    this.end(attempt, "failed", { error: toJobError(error), retryable: false });
  }

  end(attempt: Attempt, outcome: SettledOutcome, detail: SettlementDetail): void {
    if (attempt.state === "ended") return;
    this.#stop(attempt);
    if (attempt.isCommitted) return;
    if (outcome === "released") this.released += 1;
    const facts: SettlementDetail = {
      elapsed_ms: Math.round(attempt.elapsedMs),
      ...(attempt.noteText !== null && { note: JSON.parse(attempt.noteText) }),
    };
    this.#parts.settlements.add(attempt, outcome, { ...facts, ...detail });
  }

  #check(attempt: Attempt, value: unknown): Promise<void> | undefined {
    try {
      const output = parseOutput(attempt.route.job, value, (error) => {
        attempt.fault = error;
      });
      if (output instanceof Promise) {
        return output.then(
          (parsed) => this.#complete(attempt, parsed),
          (error: unknown) => this.threw(attempt, error),
        );
      }
      this.#complete(attempt, output);
    } catch (error) {
      this.threw(attempt, error);
    }
    return undefined;
  }

  #complete(attempt: Attempt, output: unknown): void {
    if (attempt.state !== "running") return;
    try {
      attempt.resultText = encodeResult(output);
    } catch (error) {
      attempt.fault = error;
      this.threw(attempt, error);
      return;
    }
    if (attempt.noteText !== null) {
      const { resultText } = attempt;
      this.end(attempt, "completed", resultText === null ? {} : { result: JSON.parse(resultText) });
      return;
    }
    this.#stop(attempt);
    if (!attempt.isCommitted) this.#parts.settlements.complete(attempt);
  }

  #decide(attempt: Attempt, outcome: ReadOutcome): void {
    const { kind, delayMs, reason } = outcome;
    this.end(attempt, kind, {
      ...(kind === "failed" && { error: toJobError(outcome.error), retryable: outcome.retryable }),
      ...(delayMs !== undefined && { delay_ms: delayMs }),
      ...(reason !== undefined && { reason }),
    });
  }

  /** Its transaction found no connection: that is not the job's fault, and no attempt of it is used up. */
  #postpone(attempt: Attempt): void {
    const { error, delayMs = 0 } = attempt.notBegun ?? {};
    const reason = `Its transaction could not begin: ${error instanceof Error ? error.message : error}`;
    this.end(attempt, "snoozed", { delay_ms: delayMs, reason: storableText(reason) });
  }

  #stop(attempt: Attempt): void {
    if (attempt.state === "running") {
      attempt.elapsedMs = this.#parts.clock.now() - attempt.startedAt;
    }
    attempt.state = "ended";
  }
}

/** Handlers may wrap the error in one of their own. */
const DEEPEST_CAUSE = 5;

/** A job that may run only once has run: what its handler did before the transaction must not be done again. */
function couldNotBegin({ notBegun, row }: Attempt, thrown: unknown): boolean {
  if (!notBegun || row[8] === 0) return false;
  let error = thrown;
  try {
    for (let depth = 0; depth < DEEPEST_CAUSE && error !== notBegun.error; depth += 1) {
      error = (error as { cause?: unknown } | undefined)?.cause;
    }
  } catch {
    return false;
  }
  return error === notBegun.error;
}
