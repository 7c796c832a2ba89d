import { InvalidPayloadError } from "../core/errors.ts";
import { parsePayload } from "../core/input.ts";
import type { StandardSchema } from "../core/standard-schema.ts";
import type { Problem } from "./problem.ts";
import { readBodyText } from "./read-body.ts";
import { RequestRefused } from "./request-refused.ts";
import { callerOf, type ServiceKeys, UNAUTHORIZED } from "./service-access.ts";
import { isSignedWebhook } from "./webhook-signature.ts";

/** One try at one job, as the function it was sent to gets it. */
export interface ReceivedJob<Payload = unknown> {
  readonly id: string;
  readonly type: string;
  /** From 1. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly tenantId: string | null;
  readonly payload: Payload;
  /** The same for all attempts of the job: `job_<id>`. Pass it on to whoever must do a thing once. */
  readonly idempotencyKey: string;
  /** W3C Trace Context, where there is one. */
  readonly traceparent: string | null;
  /** Where progress, and the end of a job that was answered with 202, is told; null when nobody listens. */
  readonly callback: Callback | null;
}

export interface Callback {
  readonly url: string;
  /** Good for this attempt only. */
  readonly token: string;
}

/** Who may send jobs. Without secrets and keys nobody may. */
export interface SenderAccess {
  /** Standard Webhooks secrets. Where there are any, a call must be signed with one of them, and keys are not looked at. @default none */
  readonly signingSecrets?: readonly string[];
  /** Keys of the service, for calls that need no signature. @default none */
  readonly keys?: Pick<ServiceKeys, "serviceTokens" | "secretKeys">;
}

export interface ReceiveOptions<Payload = unknown> {
  readonly access: SenderAccess;
  /** Any Standard Schema. @default the payload is not checked */
  readonly schema?: StandardSchema<unknown, Payload>;
  /** The time of day, in milliseconds since 1970: signatures grow old. @default Date.now */
  readonly epochMs?: () => number;
}

/** A payload may have 1 MiB; written as JSON, where quotes and line ends take two characters, it can be twice as long. */
const MOST_JOB_BYTES = 2 * 1024 * 1024;

/**
 * Reads a job that was sent here. Rejects with RequestRefused: 405, 401, 413 as HTTP means them, 400 for what is no job, and 422 with the
 * path of the fault for a payload that does not fit the schema.
 */
export async function receiveJob<Payload = unknown>(
  request: Request,
  { access, schema, epochMs = Date.now }: ReceiveOptions<Payload>,
): Promise<ReceivedJob<Payload>> {
  if (request.method !== "POST") throw methodRefused();
  const { signingSecrets = [] } = access;
  // A key is checked before the body is read, a signature can be only after.
  if (signingSecrets.length === 0) await checkKey(request, access);
  const body = await readBodyText(request, MOST_JOB_BYTES);
  if (signingSecrets.length > 0) {
    const isSigned = await isSignedWebhook(request.headers, body, signingSecrets, epochMs());
    if (!isSigned) throw new RequestRefused(UNSIGNED);
  }
  const job = readJob(body, request.headers);
  return { ...job, payload: await payloadOf(job.payload, schema) };
}

async function checkKey(request: Request, { keys }: SenderAccess): Promise<void> {
  const { serviceTokens = [], secretKeys = [] } = keys ?? {};
  const caller = await callerOf(request, { serviceTokens, secretKeys, doorbellTokens: [] });
  if (caller !== "service") throw new RequestRefused(UNAUTHORIZED);
}

async function payloadOf<Payload>(
  payload: unknown,
  schema: StandardSchema<unknown, Payload> | undefined,
): Promise<Payload> {
  try {
    // Without a schema the type is the caller's word.
    return (await parsePayload(schema, payload)) as Payload;
  } catch (error) {
    if (!(error instanceof InvalidPayloadError)) throw error;
    throw new RequestRefused({ status: 422, code: error.code, title: error.message });
  }
}

function readJob(body: string, headers: Headers): ReceivedJob {
  const given = parseObject(body);
  const id = given["id"];
  if (typeof id !== "string" || !/^\d{1,19}$/.test(id)) throw noJob("id must be a text of digits");
  const { type, tenant_id: tenantId = null, payload = null } = given;
  if (typeof type !== "string" || type === "") throw noJob("type must be a text");
  if (tenantId !== null && typeof tenantId !== "string") {
    throw noJob("tenant_id must be a text or null");
  }
  return {
    id,
    type,
    attempt: counted(given, "attempt"),
    maxAttempts: counted(given, "max_attempts"),
    tenantId,
    payload,
    idempotencyKey: headers.get("idempotency-key") || `job_${id}`,
    traceparent: headers.get("traceparent"),
    callback: callbackOf(given["callback"]),
  };
}

function parseObject(body: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    throw noJob("the body is no JSON");
  }
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) {
    return parsed as Record<string, unknown>;
  }
  throw noJob("the body must be a JSON object");
}

function counted(given: Record<string, unknown>, field: string): number {
  const value = given[field];
  if (typeof value === "number" && Number.isInteger(value) && value >= 1) return value;
  throw noJob(`${field} must be a whole number from 1 on`);
}

function callbackOf(given: unknown): Callback | null {
  if (given === undefined || given === null) return null;
  const { url, token } = given as Record<string, unknown>;
  const isUrl = typeof url === "string" && /^https?:\/\//.test(url) && URL.canParse(url);
  if (!isUrl) throw noJob("callback.url must be an http or https URL");
  // It becomes a header.
  if (typeof token !== "string" || !/^[\x21-\x7e]{1,4096}$/.test(token)) {
    throw noJob("callback.token must be a text that fits a header");
  }
  return { url, token };
}

function noJob(reason: string): RequestRefused {
  return new RequestRefused({
    status: 400,
    code: "INVALID_JOB",
    title: `This is no job: ${reason}`,
    detail: "Jobs are sent by the queue-worker; see its documentation for the fields.",
  });
}

function methodRefused(): RequestRefused {
  return new RequestRefused({
    status: 405,
    code: "METHOD_NOT_ALLOWED",
    title: "Use POST",
    headers: { allow: "POST" },
  });
}

const UNSIGNED: Problem = {
  status: 401,
  code: "SIGNATURE_INVALID",
  title: "This call is not signed with a secret that is known here, or was signed too long ago",
  detail: "The sender and this function need the same signing secret, and clocks that agree.",
};
