import { InvalidPayloadError } from "../../core/errors.ts";
import { findInexact } from "../../core/exact-json.ts";
import { encodePayload } from "../../core/json.ts";
import type { NewJob } from "../../db/enqueue-functions.ts";
import { usageError } from "../cli-error.ts";

/** What a job has that its line says nothing of. */
export type JobDefaults = Omit<NewJob, "type" | "payload" | "idempotencyKey">;

/** The value of a JSON text that Postgres can keep. Throws a usage error that begins with `subject`. */
export function parsePayload(text: string, subject: string): unknown {
  const value = parseJson(text, subject);
  // Only an escape can hold what Postgres refuses, and what is read is not changed by looking at it.
  if (text.includes("\\u")) encode(value, subject);
  return value;
}

function parseJson(text: string, subject: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw usageError(
      `${subject} is not JSON: ${error instanceof Error ? error.message : String(error)}`,
      'Objects look like {"to":"ada@example.com"}; a text needs double quotes inside of single ones',
    );
  }
}

/** The JSON of a value, if Postgres can keep it as it is. */
function encode(value: unknown, subject: string): string {
  try {
    return encodePayload(value);
  } catch (error) {
    if (!(error instanceof InvalidPayloadError)) throw error;
    const place = error.path === "" ? "" : ` at ${error.path}`;
    throw usageError(`${subject} can't be kept${place}: ${error.reason}`);
  }
}

/** A line that holds a whole job, in the words of `enqueue_jobs`. */
export function parseJob(text: string, subject: string, defaults: JobDefaults): NewJob {
  const value = parseJson(text, subject);
  const [inexact] = findInexact(text);
  if (inexact) {
    throw usageError(
      `${subject} holds the number ${inexact.text.slice(0, 40)}, which would be rounded`,
      "Name the type on the command line and give payloads alone, or write the number as a text",
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw usageError(`${subject} is not an object with type and payload`, WHOLE_JOB_HINT);
  }
  const unknown = Object.keys(value).find((key) => !Object.hasOwn(FIELDS, key));
  if (unknown !== undefined)
    throw usageError(`${subject} has an unknown field: ${unknown}`, WHOLE_JOB_HINT);
  const fields = value as Record<string, unknown>;
  for (const [name, isRight] of Object.entries(FIELDS)) {
    if (fields[name] !== undefined && fields[name] !== null && !isRight(fields[name])) {
      throw usageError(
        `${subject} has a wrong ${name}: ${JSON.stringify(fields[name])}`,
        WHOLE_JOB_HINT,
      );
    }
  }
  if (fields["type"] === undefined) throw usageError(`${subject} has no type`, WHOLE_JOB_HINT);
  const payload = encode(fields["payload"] ?? {}, subject);
  return { ...toNewJob(fields, defaults), payload };
}

const WHOLE_JOB_HINT =
  'Without a type on the command line each line is a job such as {"type":"mail.send","payload":{…},"priority":"high"}';

const isText = (value: unknown): boolean => typeof value === "string";
const isObject = (value: unknown): boolean => typeof value === "object" && !Array.isArray(value);
const isId = (value: unknown): boolean => /^\d{1,19}$/.test(String(value));

const FIELDS: Readonly<Record<string, (value: unknown) => boolean>> = {
  type: isText,
  payload: () => true,
  priority: isText,
  scheduled_at: isText,
  tenant_id: isText,
  queue: isText,
  max_retries: (value) => typeof value === "number",
  depends_on: (value) => Array.isArray(value) && value.every(isId),
  idempotency_key: isText,
  options: isObject,
};

/** The fields were checked above. */
function toNewJob(fields: Record<string, unknown>, defaults: JobDefaults): Omit<NewJob, "payload"> {
  const text = (name: string): string | undefined => (fields[name] as string | null) ?? undefined;
  const scheduledAt = text("scheduled_at");
  return {
    type: text("type") ?? "",
    priority: text("priority") ?? defaults.priority,
    scheduledAt: scheduledAt ?? defaults.scheduledAt,
    delayMs: scheduledAt === undefined ? defaults.delayMs : undefined,
    tenantId: text("tenant_id") ?? defaults.tenantId,
    queue: text("queue") ?? defaults.queue,
    maxRetries: (fields["max_retries"] as number | null) ?? defaults.maxRetries,
    dependsOn:
      (fields["depends_on"] as (string | number)[] | null)?.map(String) ?? defaults.dependsOn,
    idempotencyKey: text("idempotency_key"),
    options: (fields["options"] as Record<string, unknown> | null) ?? undefined,
  };
}
