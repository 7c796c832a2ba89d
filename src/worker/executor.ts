import {
  JobCancelledError,
  JobTimeoutError,
  LeaseLostError,
  QueueError,
  ShutdownError,
} from "../core/errors.ts";
import { parseInput, parseOutput } from "../core/input.ts";
import { toJobError } from "../core/job-error.ts";
import { encodeResult, storableText } from "../core/json.ts";
import { Outcome } from "../core/outcomes.ts";
import type { SettledOutcome, SettlementDetail } from "../db/worker-functions.ts";
import type { Attempt } from "./attempt.ts";
import { BatchRun } from "./batch-run.ts";
import type { Deadlines, Timed } from "./deadlines.ts";
import type { Events } from "./events.ts";
import { type ContextTools, JobContext } from "./job-context.ts";
import type { Lane } from "./lane.ts";
import type { LeaseBook } from "./lease-book.ts";
import type { Settlements } from "./settlements.ts";

export interface ExecutorParts {
  readonly book: LeaseBook;
  readonly settlements: Settlements;
  readonly deadlines: Deadlines;
  readonly events: Events;
  readonly tools: Omit<ContextTools, "committed" | "lost">;
  /** A slot of the lane is free, and its handler's time is known. */
  readonly onFree: (lane: Lane) => void;
}

/** Runs handlers and turns what they do into settlements. Here every job passes, so little is allocated for one. */
export class Executor {
  readonly #parts: ExecutorParts;
  readonly #tools: ContextTools;
  /** Attempts whose handlers run, whether or not their outcome is decided. */
  readonly running: Set<Attempt> = new Set();
  /** Jobs given back so far. */
  released = 0;

  constructor(parts: ExecutorParts) {
    this.#parts = parts;
    this.#tools = {
      ...parts.tools,
      committed: (attempt) => this.#committed(attempt),
      lost: (attempt) => this.lose(attempt),
    };
  }

  get #now(): number {
    return this.#tools.clock.now();
  }

  /** Starts buffered jobs while the lane has slots. */
  fill(lane: Lane): void {
    while (lane.hasFreeSlot) {
      const attempt = lane.shift();
      if (!attempt) return;
      // Lost or released while it lay in the buffer.
      if (attempt.state !== "buffered") continue;
      lane.running += 1;
      if (attempt.route.handle) this.#runSingle(attempt);
      else this.#runBatch(attempt);
    }
  }

  #runSingle(attempt: Attempt): void {
    this.#begin(attempt);
    const limit = attempt.timeoutMs;
    const timed = limit === undefined ? undefined : this.#limit([attempt], limit, () => undefined);
    let context: JobContext | undefined;
    const leave = (): void => {
      context?.close();
      if (timed) this.#parts.deadlines.remove(timed);
      this.#leave(attempt);
      this.#free(attempt.lane, attempt.elapsedMs);
    };
    const call = (input: unknown): unknown => {
      context = new JobContext(input, attempt, this.#tools);
      return attempt.route.handle?.(context);
    };
    const onReturn = (value: unknown): void => {
      this.returned(attempt, value);
      leave();
    };
    const onThrow = (error: unknown): void => {
      this.threw(attempt, error);
      leave();
    };
    let answer: unknown;
    try {
      const input = parseInput(attempt.route.job, attempt.row[5]);
      answer = input instanceof Promise ? input.then(call) : call(input);
    } catch (error) {
      onThrow(error);
      return;
    }
    if (isThenable(answer)) answer.then(onReturn, onThrow);
    else onReturn(answer);
  }

  #runBatch(first: Attempt): void {
    const { lane, route } = first;
    const others = lane.shiftSame(first.type, route.batchSize - 1);
    const attempts = [first, ...others.filter((attempt) => attempt.state === "buffered")];
    for (const attempt of attempts) this.#begin(attempt);
    const run = new BatchRun(attempts, route, this, this.#tools);
    const limits = attempts.map((attempt) => attempt.timeoutMs ?? Infinity);
    const limit = Math.min(...limits);
    const timed =
      limit === Infinity ? undefined : this.#limit(attempts, limit, (error) => run.abort(error));
    const startedAt = first.startedAt;
    void run.perform().then(() => {
      if (timed) this.#parts.deadlines.remove(timed);
      for (const attempt of attempts) this.#leave(attempt);
      this.#free(lane, (this.#now - startedAt) / attempts.length);
    });
  }

  #begin(attempt: Attempt): void {
    attempt.state = "running";
    attempt.startedAt = this.#now;
    this.running.add(attempt);
    this.#parts.events.started(attempt);
  }

  /** The handler's promise has ended. */
  #leave(attempt: Attempt): void {
    this.running.delete(attempt);
    const ranMs = this.#now - attempt.startedAt;
    // Its outcome was decided without it, and then it went on for a while.
    if (attempt.stopReason && ranMs - attempt.elapsedMs > OVERRUN_MS) {
      this.#parts.events.overran(attempt, ranMs);
    }
  }

  #free(lane: Lane, msPerJob: number): void {
    lane.freed(this.#now, msPerJob);
    this.#parts.onFree(lane);
  }

  #limit(attempts: readonly Attempt[], limitMs: number, then: (error: Error) => void): Timed {
    const timed: Timed = {
      deadlineAt: this.#now + limitMs,
      expire: () => {
        for (const attempt of attempts) {
          // Decided at once, so that a handler that ignores its signal can't keep the job from being tried again. Its slot comes
          // free only when it ends: otherwise hung handlers would pile up beyond the concurrency.
          const error = new JobTimeoutError(attempt.id, limitMs);
          this.#end(attempt, "failed", { error: toJobError(error), retryable: true });
          attempt.abort("timeout", error);
        }
        then(new JobTimeoutError(attempts[0]?.id ?? "", limitMs));
      },
    };
    this.#parts.deadlines.add(timed);
    return timed;
  }

  /** The handler returned: a result, or an outcome. */
  returned(attempt: Attempt, value: unknown): void {
    if (attempt.state !== "running") return;
    if (value instanceof Outcome) {
      this.#decide(attempt, value);
      return;
    }
    if (!attempt.route.job.output) {
      this.#complete(attempt, value);
      return;
    }
    try {
      const output = parseOutput(attempt.route.job, value);
      if (output instanceof Promise) {
        output.then(
          (parsed) => this.#complete(attempt, parsed),
          (error: unknown) => this.threw(attempt, error),
        );
      } else this.#complete(attempt, output);
    } catch (error) {
      this.threw(attempt, error);
    }
  }

  /** The handler threw, or its input did not fit. */
  threw(attempt: Attempt, error: unknown): void {
    if (attempt.state !== "running") return;
    if (attempt.isCommitted) {
      this.#tools.logger.warn("job.threw_after_commit", {
        jobId: attempt.id,
        type: attempt.type,
        error,
      });
    }
    if (attempt.stopReason === "cancelled") this.#end(attempt, "cancelled", {});
    else if (attempt.stopReason === "shutdown") this.#end(attempt, "released", {});
    else if (error instanceof Outcome) this.#decide(attempt, error);
    else {
      const retryable = !(error instanceof QueueError && NEVER_RETRIED.has(error.code));
      this.#end(attempt, "failed", { error: toJobError(error), retryable });
    }
  }

  #complete(attempt: Attempt, output: unknown): void {
    if (attempt.state !== "running") return;
    try {
      attempt.resultText = encodeResult(output);
    } catch (error) {
      this.threw(attempt, error);
      return;
    }
    this.#stop(attempt);
    if (attempt.isCommitted) return;
    this.#parts.settlements.complete(attempt);
  }

  #decide(attempt: Attempt, outcome: Outcome): void {
    const { kind, delayMs, reason } = outcome;
    this.#end(attempt, kind, {
      ...(kind === "failed" && { error: toJobError(outcome.error), retryable: outcome.retryable }),
      ...(delayMs !== undefined && { delay_ms: delayMs }),
      ...(reason !== undefined && { reason: storableText(reason) }),
    });
  }

  #end(attempt: Attempt, outcome: SettledOutcome, detail: SettlementDetail): void {
    if (attempt.state === "ended") return;
    this.#stop(attempt);
    if (attempt.isCommitted) return;
    if (outcome === "released") this.released += 1;
    const elapsed = { elapsed_ms: Math.round(attempt.elapsedMs) };
    this.#parts.settlements.add({ attempt, outcome, detail: { ...elapsed, ...detail } });
  }

  #stop(attempt: Attempt): void {
    if (attempt.state === "running") attempt.elapsedMs = this.#now - attempt.startedAt;
    attempt.state = "ended";
  }

  #committed(attempt: Attempt): void {
    attempt.isCommitted = true;
    attempt.elapsedMs = this.#now - attempt.startedAt;
    this.#parts.book.close(attempt);
    this.#parts.events.ended(attempt, { kind: "completed" });
  }

  /**
   * Somebody wants this job cancelled: its handler is told. If it throws, the job ends as cancelled; if it returns all the same, the
   * work is done and the job is completed. A handler that does neither is not waited for.
   */
  cancel(attempt: Attempt): void {
    if (attempt.state === "buffered") this.#end(attempt, "cancelled", {});
    if (attempt.state !== "running" || attempt.isAborted) return;
    attempt.abort("cancelled", new JobCancelledError(attempt.id));
    this.#parts.deadlines.add({
      deadlineAt: this.#now + CANCEL_GRACE_MS,
      expire: () => this.#end(attempt, "cancelled", {}),
    });
  }

  /** The lease is gone: nothing of this attempt may be written any more. */
  lose(attempt: Attempt): void {
    if (attempt.isClosed) return;
    this.#parts.book.close(attempt);
    if (attempt.state === "ended") return;
    this.#stop(attempt);
    attempt.abort("lost", new LeaseLostError(attempt.id));
    this.#parts.events.ended(attempt, { kind: "lost" });
  }

  /** Gives a job back that has not started, without using up its attempt. */
  giveBack(attempt: Attempt): void {
    if (attempt.state === "buffered") this.#end(attempt, "released", {});
  }

  /** Tells all running handlers that the worker stops. */
  abortAll(): void {
    const error = new ShutdownError();
    for (const attempt of this.running) attempt.abort("shutdown", error);
  }

  /** Gives back what is still running; what its handlers do from now on has no effect on the queue. */
  releaseAll(): void {
    for (const attempt of this.running) this.#end(attempt, "released", {});
  }
}

/** A handler that goes on for longer than this after its outcome was decided is worth a line in the log. */
const OVERRUN_MS = 1_000;

/** How long a handler may take to react to a cancellation. */
const CANCEL_GRACE_MS = 10_000;

/** Trying again would end the same way. */
const NEVER_RETRIED: ReadonlySet<string> = new Set(["INVALID_PAYLOAD", "INVALID_RESULT"]);

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    "then" in value &&
    typeof value.then === "function"
  );
}
