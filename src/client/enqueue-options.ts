import { array, isoTime, optionalText, optionalWord, refused } from "../core/check-options.ts";
import {
  type BackoffOptions,
  checkJob,
  checkMaxRetries,
  checkPriority,
  checkTimeout,
  type Job,
  type Priority,
  toBackoff,
} from "../core/define-job.ts";
import { type Duration, toMs } from "../core/durations.ts";
import { InvalidPayloadError } from "../core/errors.ts";
import { parseInput } from "../core/input.ts";
import { encodePayload } from "../core/json.ts";
import type { NewJob } from "../db/enqueue-functions.ts";

/** What can be said of one job. What is left out comes from the job's definition, then from the database. */
export interface EnqueueOptions {
  readonly priority?: Priority;
  readonly queue?: string;
  readonly tenantId?: string;
  /** Run it no sooner than this from now, by the database's clock. Not together with `at`. */
  readonly delay?: Duration;
  /** Run it no sooner than at this time. Not together with `delay`. */
  readonly at?: Date;
  readonly maxRetries?: number;
  /** How long one attempt may take, 24 days at most. */
  readonly timeout?: Duration;
  readonly backoff?: BackoffOptions;
  /**
   * A job of this tenant and type with the same key that exists already takes the place of this one. Keys of end users and of services
   * are apart. A job that was cancelled or purged has its key no more; any other keeps it until it is removed by retention.
   */
  readonly idempotencyKey?: string;
  /** What happens when that job has another payload: IdempotencyConflictError, or it is returned all the same. @default "error" */
  readonly onKeyConflict?: "error" | "return";
  /** The job waits until all of these have completed. */
  readonly dependsOn?: readonly JobReference[];
  /** What happens when one of them fails or is cancelled. @default "cancel" */
  readonly onParentFailure?: "cancel" | "run";
}

/** A job by its id, or by anything that has one, such as what `enqueue` returns. */
export type JobReference = string | { readonly id: string };

/** Checks input and options and puts them into the words of the database. */
export async function toNewJob(job: Job, input: unknown, options: EnqueueOptions): Promise<NewJob> {
  checkJob(job);
  const encoded = encodeInput(job, input);
  const payload = typeof encoded === "string" ? encoded : await encoded;
  return { ...jobDetails(job, options), payload };
}

/** The input as JSON text, checked. A promise only if the job's schema is asynchronous. */
export function encodeInput(job: Job, input: unknown): string | Promise<string> {
  const payload = encodePayload(input);
  if (!job.input) return payload;
  // Only a check: what is stored is the input as given, so a schema may transform. Checked is what the worker will see: a Date for
  // example is a text by then.
  const explain = (error: unknown): never => {
    throw withDateHint(error, input);
  };
  try {
    const parsed = parseInput(job, JSON.parse(payload));
    return parsed instanceof Promise ? parsed.then(() => payload, explain) : payload;
  } catch (error) {
    return explain(error);
  }
}

/** A schema that wants a Date never gets one: JSON has none. */
function withDateHint(error: unknown, input: unknown): unknown {
  if (!(error instanceof InvalidPayloadError) || !(valueAt(input, error.path) instanceof Date)) {
    return error;
  }
  return new InvalidPayloadError(error.path, error.reason, {
    cause: error.cause,
    hint: "A Date is stored as text, in ISO 8601. Let the schema read it, for example with z.coerce.date() or z.iso.datetime().",
  });
}

function valueAt(value: unknown, path: string): unknown {
  let found = value;
  for (const key of path.split(/[.[\]]+/).filter((part) => part !== "")) {
    if (typeof found !== "object" || found === null) return undefined;
    found = (found as Record<string, unknown>)[key];
  }
  return found;
}

/** All of a new job but its payload. */
export function jobDetails(job: Job, options: EnqueueOptions): Omit<NewJob, "payload"> {
  const { at } = options;
  const hasTime = at !== undefined && at !== null;
  if (hasTime && options.delay !== undefined) {
    throw refused("delay", 'must not come together with "at"', options.delay);
  }
  return {
    type: job.type,
    priority: checkPriority(options.priority) ?? job.priority,
    scheduledAt: hasTime ? isoTime("at", at) : undefined,
    delayMs: options.delay === undefined ? undefined : delayMs(options.delay),
    tenantId: optionalText("tenantId", options.tenantId),
    queue: optionalText("queue", options.queue) ?? job.queue,
    maxRetries: checkMaxRetries(options.maxRetries) ?? job.maxRetries,
    dependsOn: idsOf("dependsOn", options.dependsOn),
    idempotencyKey: optionalText("idempotencyKey", options.idempotencyKey),
    options: storedOptions(job, options),
  };
}

/** The largest bigint of Postgres. */
const LARGEST_ID = 9_223_372_036_854_775_807n;

export function idOf(reference: JobReference, option = "id"): string {
  const id = typeof reference === "string" ? reference : reference?.id;
  if (typeof id === "string" && /^\d{1,19}$/.test(id) && BigInt(id) <= LARGEST_ID) return id;
  throw refused(option, "must be the id of a job", id ?? reference);
}

/** The ids of several jobs; nothing stays nothing. */
export function idsOf(
  option: string,
  references: readonly JobReference[] | null | undefined,
): string[] | undefined {
  if (references === undefined || references === null) return undefined;
  // Not with map, which passes over holes.
  return Array.from(array(option, references), (one, at) => idOf(one, `${option}[${at}]`));
}

/** Further ahead nobody plans, and times come near the end of what the database can write. */
const FURTHEST_MS = 1_000 * 365 * 86_400_000;

function delayMs(delay: Duration): number {
  const ms = toMs(delay, "delay");
  if (ms > FURTHEST_MS) throw refused("delay", "must be at most 1000 years", delay);
  return ms;
}

/** Most jobs have none of these. */
const STORED = ["backoff", "timeout", "onParentFailure", "onKeyConflict"] as const;

function storedOptions(job: Job, options: EnqueueOptions): NewJob["options"] {
  if (job.backoff === undefined && !STORED.some((name) => options[name] !== undefined)) {
    return undefined;
  }
  const onParentFailure = optionalWord("onParentFailure", options.onParentFailure, [
    "cancel",
    "run",
  ]);
  const onKeyConflict = optionalWord("onKeyConflict", options.onKeyConflict, ["error", "return"]);
  const backoff = { ...job.backoff, ...(options.backoff && toBackoff(options.backoff)) };
  const stored = {
    ...(Object.keys(backoff).length > 0 && {
      backoff: { base_ms: backoff.baseMs, cap_ms: backoff.capMs, jitter: backoff.jitter },
    }),
    ...(options.timeout !== undefined && { timeout_ms: checkTimeout(options.timeout) }),
    ...(onParentFailure && { on_parent_failure: onParentFailure }),
    ...(onKeyConflict && { on_key_conflict: onKeyConflict }),
  };
  return Object.keys(stored).length > 0 ? stored : undefined;
}
