import type { Backoff } from "./backoff.ts";
import { optionalText, refused, requiredText, wholeNumber } from "./check-options.ts";
import { type Duration, toMs } from "./durations.ts";
import type { StandardSchema } from "./standard-schema.ts";

export const PRIORITIES = ["critical", "high", "normal", "low"] as const;

/** The database refuses more. */
const MOST_RETRIES = 10_000;
const LONGEST_MS = 2_147_483_647;
const LONGEST_BASE_MS = 86_400_000;

/** Order among the jobs that may run now. */
export type Priority = (typeof PRIORITIES)[number];

export interface BackoffOptions {
  /** Delay after the first failure, a day at most. @default "1s" */
  readonly base?: Duration;
  /** The longest delay, 24 days at most. @default "1h" */
  readonly cap?: Duration;
  /** The part of the delay that is left to chance, 0 to 1. @default 0.5: between half and the whole */
  readonly jitter?: number;
}

export interface JobOptions<Input, Output, Given> {
  /** Any Standard Schema (Zod, Valibot, ArkType …). Checked when a job is enqueued and again before it runs. */
  readonly input?: StandardSchema<Given, Input>;
  /** Checked on what the handler returns. */
  readonly output?: StandardSchema<unknown, Output>;
  /** @default the type's own name */
  readonly queue?: string;
  /** @default "normal" */
  readonly priority?: Priority;
  /** How often a failed job is tried again. @default 3, so up to four attempts */
  readonly maxRetries?: number;
  /** How long one attempt may take, 24 days at most; then its signal aborts and the attempt counts as failed. @default no limit */
  readonly timeout?: Duration;
  /** How long failed jobs of this type wait: base * 2^retries, capped, with jitter. */
  readonly backoff?: BackoffOptions;
}

/**
 * What a type of job is: its name, the schemas of its input and output, and its policy. It has no behaviour, so
 * producers can import it without pulling in the handler.
 *
 * `Given` is what producers pass; `Input` is what the handler gets once the schema has parsed it.
 */
export interface Job<Input = unknown, Output = unknown, Given = Input> {
  readonly type: string;
  readonly input: StandardSchema<Given, Input> | undefined;
  readonly output: StandardSchema<unknown, Output> | undefined;
  readonly queue: string | undefined;
  readonly priority: Priority | undefined;
  readonly maxRetries: number | undefined;
  readonly timeoutMs: number | undefined;
  readonly backoff: Partial<Backoff> | undefined;
}

/** Defines a type of job. Throws InvalidOptionError when an option makes no sense. */
export function defineJob<Input = unknown, Output = unknown, Given = Input>(
  type: string,
  options: JobOptions<Input, Output, Given> = {},
): Job<Input, Output, Given> {
  if (typeof type !== "string" || type === "") {
    throw refused("type", 'must be a name such as "email.send"', type);
  }
  return {
    type: requiredText("type", type),
    input: options.input,
    output: options.output,
    queue: optionalText("queue", options.queue),
    priority: checkPriority(options.priority),
    maxRetries: checkMaxRetries(options.maxRetries),
    timeoutMs: options.timeout === undefined ? undefined : checkTimeout(options.timeout),
    backoff: options.backoff && toBackoff(options.backoff),
  };
}

/** Throws InvalidOptionError unless it is what defineJob makes: a typo or a circular import makes it undefined. */
export function checkJob(job: Job): void {
  if (typeof job?.type !== "string") throw refused("job", "must be made by defineJob", job);
}

/** The options in the units that the database takes. */
export function toBackoff(options: BackoffOptions): Partial<Backoff> {
  if (typeof options !== "object" || Array.isArray(options)) {
    throw refused("backoff", "must be an object with base, cap or jitter", options);
  }
  const { base, cap, jitter } = options;
  if (jitter !== undefined && !(typeof jitter === "number" && jitter >= 0 && jitter <= 1)) {
    throw refused("backoff.jitter", "must be between 0 and 1", jitter);
  }
  return {
    ...(base !== undefined && {
      baseMs: atMost(toMs(base, "backoff.base"), LONGEST_BASE_MS, "backoff.base", base),
    }),
    ...(cap !== undefined && {
      capMs: atMost(toMs(cap, "backoff.cap"), LONGEST_MS, "backoff.cap", cap),
    }),
    ...(jitter !== undefined && { jitter }),
  };
}

export function checkPriority(priority: Priority | undefined): Priority | undefined {
  if (priority !== undefined && !PRIORITIES.includes(priority)) {
    throw refused("priority", `must be one of ${PRIORITIES.join(", ")}`, priority);
  }
  return priority;
}

export function checkMaxRetries(maxRetries: number | undefined): number | undefined {
  return maxRetries === undefined
    ? undefined
    : wholeNumber("maxRetries", maxRetries, 0, MOST_RETRIES);
}

export function checkTimeout(timeout: Duration): number {
  const ms = toMs(timeout, "timeout");
  if (ms < 1) throw refused("timeout", "must be at least 1 ms", timeout);
  return atMost(ms, LONGEST_MS, "timeout", timeout);
}

function atMost(ms: number, most: number, option: string, given: Duration): number {
  if (ms > most)
    throw refused(option, `must be at most ${most} ms, which are ${days(most)}`, given);
  return ms;
}

function days(ms: number): string {
  const count = Math.floor(ms / 86_400_000);
  return count === 1 ? "1 day" : `${count} days`;
}
