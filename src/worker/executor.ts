import { callClean } from "../core/clean-context.ts";
import { JobTimeoutError, ShutdownError } from "../core/errors.ts";
import { parseInput } from "../core/input.ts";
import { toJobError } from "../core/job-error.ts";
import type { Attempt } from "./attempt.ts";
import { BatchRun } from "./batch-run.ts";
import { type Blocks, NOTABLE_MS } from "./blocks.ts";
import type { Deadlines, Timed } from "./deadlines.ts";
import type { Events } from "./events.ts";
import { type ContextTools, JobContext } from "./job-context.ts";
import type { Lane } from "./lane.ts";
import type { Verdicts } from "./verdicts.ts";

export interface ExecutorParts {
  readonly verdicts: Verdicts;
  readonly deadlines: Deadlines;
  readonly events: Events;
  readonly blocks: Blocks;
  readonly tools: ContextTools;
  /** A slot of the lane is free, and its handler's time is known. */
  readonly onFree: (lane: Lane) => void;
}

/** A handler that goes on for longer than this after its outcome was decided is worth a line in the log. */
const OVERRUN_MS = 1_000;
/** Handlers that let others in within this time are begun before the database has heard that their job was accepted. */
const SHORT_BLOCK_MS = 100;

/** Runs handlers, each in a slot of its lane. Every job passes here, so little is allocated for one. */
export class Executor {
  readonly #parts: ExecutorParts;
  /** Attempts whose handlers run, whether or not their outcome is decided. */
  readonly running: Set<Attempt> = new Set();

  constructor(parts: ExecutorParts) {
    this.#parts = parts;
  }

  get #now(): number {
    return this.#parts.tools.clock.now();
  }

  /** Starts buffered jobs while the lane has slots. */
  fill(lane: Lane): void {
    // Handlers that are not asynchronous end while they are started; their slots are filled by the loop that is under way.
    if (lane.isFilling) return;
    lane.isFilling = true;
    try {
      for (let next = this.#next(lane); next; next = this.#next(lane)) this.#start(next);
    } finally {
      lane.isFilling = false;
    }
  }

  #next(lane: Lane): Attempt | undefined {
    if (!lane.hasFreeSlot) return undefined;
    let attempt = lane.shift();
    // Lost or released while it lay in the buffer.
    while (attempt && attempt.state !== "buffered") attempt = lane.shift();
    return attempt;
  }

  #start(attempt: Attempt): void {
    const { lane, route, type } = attempt;
    // In the midst of a backlog this would cost as much as a handler that does nothing.
    const isMeasured = lane.buffered === 0;
    lane.running += 1;
    if (route.batch) this.#runBatch(attempt);
    else this.#runSingle(attempt);
    if (isMeasured) this.#parts.blocks.called(type, this.#now - attempt.startedAt);
  }

  /** Whether the handlers of a type, as far as was seen, soon let others in after they are called. */
  givesWay(type: string): boolean {
    return this.#parts.blocks.longestCall(type) <= SHORT_BLOCK_MS;
  }

  /** Tells all running handlers that the worker stops. */
  abortAll(): void {
    const error = new ShutdownError();
    for (const attempt of this.running) attempt.abort("shutdown", error);
  }

  /** Ends what is still running; what its handlers do from now on has no effect on the queue. */
  releaseAll(): void {
    for (const attempt of this.running) this.#parts.verdicts.interrupt(attempt);
  }

  /** Nothing that a handler returns or throws is trusted: whatever it does when it is looked at, its attempt ends and its slot comes free. */
  #runSingle(attempt: Attempt): void {
    this.#begin(attempt);
    const limitMs = attempt.ownTimeoutMs ?? attempt.route.job.timeoutMs;
    const timed = limitMs === undefined ? undefined : this.#limit([attempt], limitMs);
    let answer: unknown;
    try {
      answer = this.#call(attempt);
      if (isThenable(answer)) {
        void Promise.resolve(answer).then(
          (value) => this.#returned(attempt, value, timed),
          (error: unknown) => this.#threw(attempt, error, timed),
        );
        return;
      }
    } catch (error) {
      this.#threw(attempt, error, timed);
      return;
    }
    this.#returned(attempt, answer, timed);
  }

  #call(attempt: Attempt): unknown {
    const { job } = attempt.route;
    if (!job.input) return this.#handle(attempt, attempt.payload);
    const input = parseInput(job, attempt.payload, (error) => {
      attempt.fault = error;
    });
    if (!(input instanceof Promise)) return this.#handle(attempt, input);
    // Meanwhile its time may have run out, or it was given back.
    return input.then((parsed: unknown) =>
      attempt.state === "running" ? this.#handle(attempt, parsed) : undefined,
    );
  }

  #handle(attempt: Attempt, input: unknown): unknown {
    attempt.isBegun = true;
    return callClean(attempt.route.handle, new JobContext(input, attempt, this.#parts.tools));
  }

  #returned(attempt: Attempt, value: unknown, timed: Timed | undefined): void {
    const { verdicts } = this.#parts;
    try {
      const checking = verdicts.returned(attempt, value);
      if (checking) {
        void checking
          .catch((error: unknown) => verdicts.crashed(attempt, error))
          .then(() => this.#endSingle(attempt, timed));
        return;
      }
    } catch (error) {
      verdicts.crashed(attempt, error);
    }
    this.#endSingle(attempt, timed);
  }

  #threw(attempt: Attempt, error: unknown, timed: Timed | undefined): void {
    const { verdicts } = this.#parts;
    try {
      verdicts.threw(attempt, error);
    } catch (fault) {
      verdicts.crashed(attempt, fault);
    }
    this.#endSingle(attempt, timed);
  }

  #endSingle(attempt: Attempt, timed: Timed | undefined): void {
    if (timed) this.#parts.deadlines.remove(timed);
    this.#leave(attempt);
    this.#free(attempt.lane, attempt.elapsedMs);
  }

  #runBatch(first: Attempt): void {
    const { verdicts, deadlines, tools } = this.#parts;
    const { lane, route } = first;
    const others = lane.shiftSame(first.type, route.batchSize - 1);
    const attempts = [first, ...others.filter((attempt) => attempt.state === "buffered")];
    for (const attempt of attempts) this.#begin(attempt);
    const run = new BatchRun(attempts, route, verdicts, tools);
    const limits = this.#limitBatch(attempts, route.job.timeoutMs);
    void run.perform().then(() => {
      for (const timed of limits) deadlines.remove(timed);
      for (const attempt of attempts) this.#leave(attempt);
      this.#free(lane, (this.#now - first.startedAt) / attempts.length);
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
    if (attempt.elapsedMs >= NOTABLE_MS) this.#parts.blocks.ended(attempt.type, attempt.elapsedMs);
    attempt.onLeave?.();
    if (!attempt.stopReason) return;
    const ranMs = this.#now - attempt.startedAt;
    if (ranMs - attempt.elapsedMs > OVERRUN_MS) this.#parts.events.overran(attempt, ranMs);
  }

  #free(lane: Lane, msPerJob: number): void {
    lane.freed(this.#now, msPerJob);
    this.#parts.onFree(lane);
  }

  /** The definition's limit holds for the batch, a job's own for that job alone. */
  #limitBatch(attempts: readonly Attempt[], limitMs: number | undefined): Timed[] {
    const own = attempts.filter((attempt) => attempt.ownTimeoutMs !== undefined);
    const others = attempts.filter((attempt) => attempt.ownTimeoutMs === undefined);
    return [
      ...own.map((attempt) => this.#limit([attempt], attempt.ownTimeoutMs ?? 0)),
      ...(limitMs !== undefined && others.length > 0 ? [this.#limit(others, limitMs)] : []),
    ];
  }

  /**
   * When the time is over the attempts fail at once, so that a handler that ignores its signal can't keep its jobs from being tried
   * again. The slot comes free only when the handler ends: otherwise hung handlers would pile up beyond the concurrency.
   */
  #limit(attempts: readonly Attempt[], limitMs: number): Timed {
    const { verdicts, deadlines } = this.#parts;
    const timed: Timed = {
      deadlineAt: this.#now + limitMs,
      expire() {
        for (const attempt of attempts) {
          const error = new JobTimeoutError(attempt.id, limitMs);
          verdicts.end(attempt, "failed", { error: toJobError(error), retryable: true });
          attempt.abort("timeout", error);
        }
      },
    };
    deadlines.add(timed);
    return timed;
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    (typeof value === "object" || typeof value === "function") &&
    value !== null &&
    typeof (value as PromiseLike<unknown>).then === "function"
  );
}
