import { wholeNumber } from "../core/check-options.ts";
import type { Clock } from "../core/clock.ts";
import { DatabaseUnreachableError } from "../core/database-errors.ts";
import {
  JobCancelledError,
  type JobErrorJson,
  JobFailedError,
  ResultTimeoutError,
  UnknownJobError,
} from "../core/errors.ts";
import { deadline, sleep } from "../core/signals.ts";
import { type JobOutcome, jobOutcome } from "../db/enqueue-functions.ts";
import type { Queryable } from "../db/sql.ts";
import { isTransient } from "../db/sqlstate.ts";

export interface ResultOptions {
  /** How long to wait at most. @default 30_000 */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The first look comes soon, for jobs that take milliseconds; later ones grow rarer, for jobs that take minutes. */
const FIRST_LOOK_MS = 5;
const RAREST_LOOK_MS = 1_000;
const LOOK_GROWTH = 1.5;
/** How long one look may take, at first and at most: then another connection is tried. */
const FIRST_ANSWER_MS = 2_000;
const LONGEST_ANSWER_MS = 15_000;

/**
 * Waits until a job has ended; answers its result.
 *
 * Throws JobFailedError, JobCancelledError, UnknownJobError, ResultTimeoutError, or the signal's reason; DatabaseUnreachableError when
 * the time is over and the database is away. The job goes on whatever happens here.
 */
export async function awaitResult(
  db: Queryable,
  id: string,
  { timeoutMs = 30_000, signal }: ResultOptions,
  clock: Clock,
): Promise<unknown> {
  wholeNumber("timeoutMs", timeoutMs, 0, Number.MAX_SAFE_INTEGER);
  const patience = deadline(timeoutMs, () => new ResultTimeoutError(id, timeoutMs), signal, clock);
  let outage: unknown;
  let answerMs = FIRST_ANSWER_MS;
  try {
    for (let wait = FIRST_LOOK_MS; ; wait = Math.min(wait * LOOK_GROWTH, RAREST_LOOK_MS)) {
      try {
        const ended = verdict(id, await look(db, id, answerMs, patience.signal, clock));
        if (ended) return ended.result;
        outage = undefined;
      } catch (error) {
        // The job goes on without us; so does the waiting, for as long as it may.
        if (!isTransient(error)) throw error;
        outage = error;
        answerMs = Math.min(answerMs * 2, LONGEST_ANSWER_MS);
      }
      await sleep(wait, patience.signal, clock);
    }
  } catch (error) {
    throw error instanceof ResultTimeoutError && outage ? outage : error;
  } finally {
    patience.release();
  }
}

async function look(
  db: Queryable,
  id: string,
  ms: number,
  signal: AbortSignal,
  clock: Clock,
): Promise<JobOutcome | null> {
  const late = () => new DatabaseUnreachableError("its address", `no answer within ${ms} ms`);
  const patience = deadline(ms, late, signal, clock);
  try {
    return await jobOutcome(db, id, patience.signal);
  } finally {
    patience.release();
  }
}

function verdict(id: string, outcome: JobOutcome | null): { result: unknown } | undefined {
  switch (outcome?.status) {
    case undefined:
      throw new UnknownJobError(id);
    case "completed":
      return { result: outcome?.result };
    case "failed":
      throw new JobFailedError(id, outcome?.attempts ?? 0, toErrorJson(outcome?.error));
    case "cancelled":
      throw new JobCancelledError(id, outcome?.error?.message);
  }
  return undefined;
}

function toErrorJson(error: JobOutcome["error"] | undefined): JobErrorJson | undefined {
  return error ? { ...error, name: error.name ?? "Error" } : undefined;
}
