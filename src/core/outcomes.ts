import { type Duration, toMs } from "./durations.ts";

/** A way to end an attempt other than completing it. Handlers return (or throw) what these functions make. */
export class Outcome {
  readonly kind: "snoozed" | "discarded" | "failed";
  /** Milliseconds until the job may run again; undefined leaves it to the job's backoff. */
  readonly delayMs: number | undefined;
  readonly reason: string | undefined;
  readonly error: unknown;
  readonly retryable: boolean;

  constructor(
    kind: Outcome["kind"],
    parts: { delayMs?: number; reason?: string; error?: unknown; retryable?: boolean },
  ) {
    this.kind = kind;
    this.delayMs = parts.delayMs;
    this.reason = parts.reason;
    this.error = parts.error;
    this.retryable = parts.retryable ?? true;
  }
}

/** Run the job again after a while; no attempt is used up. */
export function snooze(delay: Duration, reason?: string): Outcome {
  const delayMs = toMs(delay, "delay");
  return new Outcome("snoozed", reason === undefined ? { delayMs } : { delayMs, reason });
}

/** Put the job into the dead letters now, however many attempts are left. */
export function discard(reason: string): Outcome {
  return new Outcome("discarded", { reason });
}

export interface FailOptions {
  /** Whether the job may be tried again. @default true */
  readonly retryable?: boolean;
  /** When to try again. @default the job's backoff */
  readonly retryAfter?: Duration;
}

/** The attempt failed: what throwing does, with a say in the retry. */
export function fail(error: unknown, { retryable = true, retryAfter }: FailOptions = {}): Outcome {
  if (retryAfter === undefined) return new Outcome("failed", { error, retryable });
  return new Outcome("failed", { error, retryable, delayMs: toMs(retryAfter, "retryAfter") });
}
