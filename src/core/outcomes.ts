import { hasBrand, OUTCOME } from "./brand.ts";
import { refused } from "./check-options.ts";
import { type Duration, toMs } from "./durations.ts";
import { toReason } from "./job-error.ts";

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

Object.defineProperty(Outcome.prototype, OUTCOME, { value: true });

/** Run the job again after a while, 100 years at most; no attempt is used up. The reason may be anything, an error for example: its words are kept. */
export function snooze(delay: Duration, reason?: unknown): Outcome {
  const delayMs = waitMs(delay, "delay");
  if (reason === undefined) return new Outcome("snoozed", { delayMs });
  return new Outcome("snoozed", { delayMs, reason: toReason(reason) });
}

/** Put the job into the dead letters now, however many attempts are left. The reason may be anything, an error for example. */
export function discard(reason: unknown): Outcome {
  return new Outcome("discarded", { reason: toReason(reason) });
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
  return new Outcome("failed", { error, retryable, delayMs: waitMs(retryAfter, "retryAfter") });
}

/** The database waits no longer. */
const LONGEST_WAIT_MS = 100 * 365 * 86_400_000;

function waitMs(wait: Duration, option: string): number {
  const ms = toMs(wait, option);
  if (ms > LONGEST_WAIT_MS) throw refused(option, "must be at most 100 years", wait);
  return ms;
}

/** What an outcome says, with nothing in it that could surprise. */
export type ReadOutcome = Pick<Outcome, "kind" | "delayMs" | "reason" | "error" | "retryable">;

/**
 * Reads an outcome, also one that another copy of this library made. Undefined for everything else: that is a result, or an error. What
 * it holds may be anything, so each part is looked at with care. Never throws.
 */
export function readOutcome(value: unknown): ReadOutcome | undefined {
  if (!hasBrand(value, OUTCOME)) return undefined;
  const part = (name: keyof ReadOutcome): unknown => {
    try {
      return (value as Outcome)[name];
    } catch {
      return undefined;
    }
  };
  const kind = part("kind");
  const delay = part("delayMs");
  const reason = part("reason");
  return {
    kind: kind === "snoozed" || kind === "discarded" ? kind : "failed",
    delayMs: typeof delay === "number" && delay >= 0 && delay < Infinity ? delay : undefined,
    reason: reason === undefined ? undefined : toReason(reason),
    error: part("error"),
    retryable: part("retryable") !== false,
  };
}
