import { callerOf } from "../client/call-options.ts";
import type { Clock } from "../core/clock.ts";
import { AlreadyCommittedError, InvalidOptionError, LeaseLostError } from "../core/errors.ts";
import type { AttemptNumber, Claim, HandlerContext, HandlerTransaction } from "../core/handler.ts";
import { parseOutput } from "../core/input.ts";
import { encodeResult } from "../core/json.ts";
import { type Logger, withFields } from "../core/logger.ts";
import { handOver, parentResults, reportProgress, settleOne } from "../db/attempt-functions.ts";
import type { Queryable, Sql, SqlTransaction } from "../db/sql.ts";
import { isTransient } from "../db/sqlstate.ts";
import type { Attempt } from "./attempt.ts";
import { ProgressReporter } from "./progress.ts";
import type { Verdicts } from "./verdicts.ts";

/** What contexts need of their worker. */
export interface ContextTools {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: () => number;
  readonly verdicts: Pick<Verdicts, "committed" | "handedOver" | "lose" | "miss">;
  /** This worker's number in the database. */
  readonly worker: () => number;
}

/** When a transaction could not begin the job is tried again after about this long. */
const NOT_BEGUN_MS = 2_000;
/** What one attempt may keep, in characters of JSON. */
const MOST_NOTE_CHARS = 16 * 1024;

/** What a handler gets. Everything that costs something is made when it is first used. */
export class JobContext implements HandlerContext {
  readonly input: unknown;
  readonly #attempt: Attempt;
  readonly #tools: ContextTools;
  #log: Logger | undefined;
  #progress: ProgressReporter | undefined;

  constructor(input: unknown, attempt: Attempt, tools: ContextTools) {
    this.input = input;
    this.#attempt = attempt;
    this.#tools = tools;
  }

  get id(): string {
    return this.#attempt.id;
  }

  get type(): string {
    return this.#attempt.type;
  }

  get queue(): string {
    return this.#attempt.row[3];
  }

  get tenantId(): string | null {
    return this.#attempt.row[6];
  }

  get attempt(): AttemptNumber {
    const { row } = this.#attempt;
    return { number: row[7], max: row[8] + 1 };
  }

  get signal(): AbortSignal {
    return this.#attempt.signal;
  }

  get log(): Logger {
    this.#log ??= withFields(this.#tools.logger, {
      jobId: this.id,
      type: this.type,
      attempt: this.#attempt.row[7],
    });
    return this.#log;
  }

  // Functions are made when they are asked for: handlers take their context apart, so they must work without it.

  get progress(): HandlerContext["progress"] {
    return (percent, message, data) => {
      this.#progress ??= this.#makeReporter();
      this.#progress.report(percent, message, data);
    };
  }

  get note(): HandlerContext["note"] {
    return (data) => {
      const text = encodeResult(data);
      if (text !== null && text.length > MOST_NOTE_CHARS) {
        throw new InvalidOptionError(
          "note",
          `it must have at most ${MOST_NOTE_CHARS} characters as JSON`,
        );
      }
      this.#attempt.noteText = text;
    };
  }

  get claim(): Claim {
    return { jobId: this.id, leaseId: this.#attempt.lease.id };
  }

  get handOver(): HandlerContext["handOver"] {
    return async (withinMs) => {
      const attempt = this.#attempt;
      const { verdicts, worker } = this.#tools;
      if (attempt.state !== "running") throw new LeaseLostError(this.id);
      const claim = { worker: worker(), lease: attempt.lease.id, id: attempt.id };
      const note = attempt.noteText;
      const isPassed = await this.#call((db) => handOver(db, { ...claim, withinMs, note }));
      if (!isPassed) {
        verdicts.lose(attempt);
        throw new LeaseLostError(this.id);
      }
      verdicts.handedOver(attempt);
    };
  }

  get parents(): HandlerContext["parents"] {
    return () => this.#call((db) => parentResults(db, this.id));
  }

  get commitWith(): HandlerContext["commitWith"] {
    return (work) => this.#commitWith(work);
  }

  #call<T>(work: (db: Queryable) => Promise<T>): Promise<T> {
    const { sql, clock } = this.#tools;
    return callerOf(sql, clock)({}, work);
  }

  #makeReporter(): ProgressReporter {
    const { clock, verdicts } = this.#tools;
    const attempt = this.#attempt;
    const reporter = new ProgressReporter(clock, async (news) => {
      if (attempt.state !== "running") return;
      const report = { ...news, id: attempt.id, lease: attempt.lease.id };
      const holds = await this.#call((db) => reportProgress(db, report));
      if (!holds && attempt.state === "running") verdicts.miss(attempt);
    });
    attempt.onLeave = () => reporter.stop();
    return reporter;
  }

  async #commitWith(work: (tx: HandlerTransaction) => unknown): Promise<void> {
    const attempt = this.#attempt;
    if (attempt.isCommitting || attempt.isCommitted) {
      throw new AlreadyCommittedError(`Job ${this.id} is completed, or about to be`);
    }
    if (attempt.state !== "running") throw new LeaseLostError(this.id);
    attempt.isCommitting = true;
    try {
      await this.#commit(work);
    } finally {
      attempt.isCommitting = false;
    }
  }

  async #commit(work: (tx: HandlerTransaction) => unknown): Promise<void> {
    const attempt = this.#attempt;
    const { sql, verdicts, random } = this.#tools;
    const over = new AbortController();
    // Somebody else may have the job, or has it soon: what is still under way must not keep its locks, nor this slot.
    const onAbort = (): void => {
      if (attempt.stopReason !== "cancelled" && attempt.stopReason !== "shutdown") {
        over.abort(attempt.signal.reason);
      }
    };
    attempt.signal.addEventListener("abort", onAbort, { once: true });
    let isBegun = false;
    try {
      const status = await sql.transaction(
        (tx) => {
          isBegun = true;
          return this.#settleIn(tx, work);
        },
        { signal: over.signal },
      );
      if (status === "completed") verdicts.committed(attempt);
    } catch (error) {
      if (!isBegun && isTransient(error)) {
        attempt.notBegun = { error, delayMs: Math.round(NOT_BEGUN_MS * (0.5 + random())) };
      }
      throw error;
    } finally {
      attempt.signal.removeEventListener("abort", onAbort);
    }
  }

  async #settleIn(tx: SqlTransaction, work: (tx: HandlerTransaction) => unknown): Promise<string> {
    const attempt = this.#attempt;
    const { clock, verdicts } = this.#tools;
    const onFault = (error: unknown): void => {
      attempt.fault = error;
    };
    const output = await parseOutput(attempt.route.job, await work(tx), onFault);
    const settlement = {
      lease: attempt.lease.id,
      id: attempt.id,
      outcome: "completed",
      detail: { elapsed_ms: Math.round(clock.now() - attempt.startedAt) },
      result: encodeOwn(output, onFault),
    } as const;
    const answer = await callerOf(tx, clock)({}, (db) => settleOne(db, settlement));
    if (answer === null) {
      verdicts.lose(attempt);
      throw new LeaseLostError(this.id);
    }
    return answer;
  }
}

function encodeOwn(output: unknown, onFault: (error: unknown) => void): string | null {
  try {
    return encodeResult(output);
  } catch (error) {
    onFault(error);
    throw error;
  }
}
