import { type Clock, systemClock } from "../core/clock.ts";
import { type ErrorDetails, QueueError } from "../core/errors.ts";
import { toJobError } from "../core/job-error.ts";
import { encodeResult, type JsonValue } from "../core/json.ts";
import { deadline, sleep } from "../core/signals.ts";
import { ProgressReporter } from "../worker/progress.ts";
import type { ReceivedJob } from "./received-job.ts";

/** Tells the queue how a job is getting on, while the call that brought it is open and after it was answered with 202. */
export interface JobReporter {
  /** News for whoever watches; at most one call a second, the newest wins, and a call that fails is nobody's trouble. */
  progress(percent: number, message?: string, data?: JsonValue): void;
  /** Ends the job with a result. False when the lease is lost: then another attempt may be under way. */
  complete(result?: unknown): Promise<boolean>;
  /** Ends the attempt with an error. False when the lease is lost. */
  fail(error: unknown, options?: FailReport): Promise<boolean>;
  /** Asks for so many seconds from now on. False when the lease is lost: stop, and change nothing. */
  extend(seconds: number): Promise<boolean>;
  /** Drops progress that has not been told. */
  stop(): void;
}

export interface FailReport {
  /** @default true */
  readonly retryable?: boolean;
  /** @default the job's backoff */
  readonly retryAfterSeconds?: number | undefined;
}

export interface ReporterTools {
  readonly fetch?: typeof globalThis.fetch;
  /** Gives up what is being told. */
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  /** Called when a report of progress finds the lease lost. */
  readonly onLost?: () => void;
}

/** A report was neither accepted nor refused for a lost lease. */
export class ReportError extends QueueError {
  override readonly name = "ReportError";
  readonly code: "REPORT_UNAUTHORIZED" | "REPORT_REFUSED" | "REPORT_FAILED" | "NO_CALLBACK";
  /** The HTTP status of the answer; null when there was none. */
  readonly status: number | null;

  constructor(
    code: ReportError["code"],
    status: number | null,
    message: string,
    details?: ErrorDetails,
  ) {
    super(message, details);
    this.code = code;
    this.status = status;
  }
}

const TIMEOUT_MS = 10_000;
const PROGRESS_PAUSE_MS = 1_000;
/** The end of a job is told again when it could not be: otherwise all its work would be done once more. */
const PAUSES_MS = [500, 2_000, 8_000];

/** The reporter of a job. Without a callback progress goes nowhere, and everything else rejects with NO_CALLBACK. */
export function reporterOf(
  { callback }: Pick<ReceivedJob, "callback">,
  tools: ReporterTools = {},
): JobReporter {
  const { fetch = globalThis.fetch, signal, clock = systemClock, onLost } = tools;

  async function tell(body: string): Promise<boolean> {
    if (!callback) throw new ReportError("NO_CALLBACK", null, "The job has no callback");
    const late = (): Error => new Error(`no answer within ${TIMEOUT_MS} ms`);
    const limit = deadline(TIMEOUT_MS, late, signal, clock);
    try {
      const response = await fetch(callback.url, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          authorization: `Bearer ${callback.token}`,
        },
        body,
        redirect: "error",
        signal: limit.signal,
      });
      // What it says beyond its status is not needed, but a body that is left unread holds its connection.
      await response.body?.cancel();
      return verdictOf(response.status);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof ReportError) throw error;
      const cause = limit.signal.aborted ? limit.signal.reason : error;
      throw new ReportError("REPORT_FAILED", null, "The queue could not be reached", { cause });
    } finally {
      limit.release();
    }
  }

  async function tellTheEnd(body: string): Promise<boolean> {
    progress.stop();
    for (const pauseMs of PAUSES_MS) {
      try {
        return await tell(body);
      } catch (error) {
        if (!(error instanceof ReportError) || error.code !== "REPORT_FAILED") throw error;
        await sleep(pauseMs, signal, clock);
      }
    }
    return tell(body);
  }

  const progress = new ProgressReporter(
    clock,
    async ({ percent, message, data }) => {
      const news = JSON.stringify({
        report: "progress",
        percent,
        ...(message !== null && { message }),
        ...(data !== null && { data: JSON.parse(data) }),
      });
      if (!(await tell(news))) onLost?.();
    },
    PROGRESS_PAUSE_MS,
  );

  return {
    progress(percent, message, data) {
      if (callback) progress.report(percent, message, data);
    },
    complete: async (result) =>
      tellTheEnd(`{"report":"complete","result":${encodeResult(result) ?? "null"}}`),
    fail: async (error, { retryable = true, retryAfterSeconds } = {}) =>
      tellTheEnd(
        JSON.stringify({
          report: "fail",
          error: textOf(error),
          retryable,
          ...(retryAfterSeconds !== undefined && { retry_after_seconds: retryAfterSeconds }),
        }),
      ),
    extend: async (seconds) => tell(JSON.stringify({ report: "extend", seconds })),
    stop: () => progress.stop(),
  };
}

function verdictOf(status: number): boolean {
  if (status >= 200 && status < 300) return true;
  if (status === 409) return false;
  if (status === 401) {
    throw new ReportError("REPORT_UNAUTHORIZED", status, "The queue refused the callback's token");
  }
  if (status >= 500 || status === 408 || status === 429) {
    throw new ReportError(
      "REPORT_FAILED",
      status,
      `The queue could not take the report (${status})`,
    );
  }
  throw new ReportError("REPORT_REFUSED", status, `The queue refused the report (${status})`);
}

/** An error as the one line that is kept of it. */
function textOf(error: unknown): string {
  if (typeof error === "string") return toJobError(new Error(error)).message;
  const { name, message } = toJobError(error);
  return message === "" ? name : message;
}
