import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { pause } from "../core/signals.ts";
import { failureOf } from "./job-failure.ts";
import { type JobReporter, ReportError } from "./job-reporter.ts";

export interface LaterTools {
  readonly reporter: Pick<JobReporter, "complete" | "fail" | "extend">;
  /** Stops the work: its lease is gone. */
  readonly lose: () => void;
  readonly clock: Clock;
  readonly log: Logger;
  readonly leaseSeconds: number;
}

/** Does the work whose call is answered already: keeps its lease alive, and tells its end. Never rejects. */
export async function workLater(
  work: () => Promise<string | null>,
  tools: LaterTools,
): Promise<void> {
  const { reporter, log } = tools;
  const ended = new AbortController();
  const leased = keepLease(tools, ended.signal);
  let tell: () => Promise<boolean>;
  try {
    const result = await work();
    tell = () => reporter.complete(result === null ? null : JSON.parse(result));
  } catch (error) {
    const { problem, retryable, retryAfterSeconds } = failureOf(error);
    log.warn("job.failed", { code: problem.code });
    tell = () => reporter.fail(problem.title, { retryable, retryAfterSeconds });
  }
  ended.abort();
  try {
    if (!(await tell())) log.warn("job.lease_lost");
  } catch (error) {
    log.error("job.report_failed", { code: codeOf(error) });
  }
  await leased;
}

/** Asks for more time, at first and each third of it. An ask that fails is made again: two more come before the lease ends. */
async function keepLease(tools: LaterTools, ended: AbortSignal): Promise<void> {
  const { reporter, lose, clock, log, leaseSeconds } = tools;
  while (!ended.aborted) {
    try {
      if (!(await reporter.extend(leaseSeconds))) return lose();
    } catch (error) {
      log.warn("job.extend_failed", { code: codeOf(error) });
    }
    await pause((leaseSeconds * 1_000) / 3, ended, clock);
  }
}

function codeOf(error: unknown): string {
  return error instanceof ReportError ? error.code : "UNKNOWN";
}
