import { defineJob, type Job } from "../../core/define-job.ts";
import { type ErrorDetails, QueueError } from "../../core/errors.ts";
import { implement } from "../../core/implement.ts";
import type { Logger } from "../../core/logger.ts";
import { raceSignal } from "../../core/signals.ts";
import type { Sql } from "../../db/sql.ts";
import { createWorker } from "../../worker/worker.ts";

/** The one type of job that is measured. It does nothing, so what is left is the queue. */
export const benchJob: Job<{ readonly n: number }, void> = defineJob("millrace.bench");

/** The worker met with something that makes its figures worthless. */
class DisturbedError extends QueueError {
  override readonly name = "DisturbedError";
  readonly code = "BENCH_DISTURBED";

  constructor(what: string, details: ErrorDetails = {}) {
    super(`The worker was disturbed while it was measured: ${what}`, details);
  }
}

export interface WorkRequest {
  readonly sql: Sql;
  readonly concurrency: number;
  /** Called with the number of each job that starts. */
  readonly onStart: (n: number) => void;
  readonly stop: AbortSignal;
}

/** Handlers do nothing, so none has to be waited for. */
const SHUTDOWN_MS = 2_000;

/**
 * Runs a worker while `measure` runs, and stops it afterwards: then all that was run is written. The signal that `measure` gets also
 * aborts when the worker loses its connection: a worker waits outages out, a measurement must not.
 */
export async function whileWorking<T>(
  { sql, concurrency, onStart, stop }: WorkRequest,
  measure: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const disturbed = new AbortController();
  const signal = AbortSignal.any([stop, disturbed.signal]);
  const worker = createWorker({
    sql,
    handlers: [implement(benchJob, ({ input }) => onStart(input.n))],
    concurrency,
    shutdownTimeoutMs: SHUTDOWN_MS,
    logger: alarm((error) => disturbed.abort(error)),
    details: { program: "millrace bench" },
  });
  try {
    await raceSignal(worker.start(), signal);
    return await measure(signal);
  } finally {
    await worker.stop();
  }
}

/** Hears of what goes wrong. Not a listener of events: with one, the worker makes an event of every job. */
function alarm(onAlarm: (error: unknown) => void): Logger {
  return {
    debug() {},
    info() {},
    warn(event, { error } = {}) {
      if (event === "database.disconnected") onAlarm(error);
    },
    error(event, { error } = {}) {
      onAlarm(new DisturbedError(event, { cause: error }));
    },
    enabled: (level) => level === "warn" || level === "error",
  };
}
