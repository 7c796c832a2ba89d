import type { Clock } from "../core/clock.ts";
import { deadline } from "../core/signals.ts";
import { answerResult, MOST_CHARS } from "./answer-result.ts";
import { DispatchError, type DispatchFault } from "./dispatch-error.ts";
import { retryAfterMs } from "./retry-after.ts";
import { signWebhook } from "./webhook-signature.ts";

/** Where jobs of a type are sent. */
export interface Target {
  /** For people: the name that error messages use. */
  readonly functionName: string;
  readonly url: string;
  readonly method: "POST" | "PUT";
  /** Sent with every call: credentials for example. */
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  /** How long the function may take to report after an answer of 202. */
  readonly reportMs: number;
  /** How many jobs one call takes at most. */
  readonly batchSize: number;
  /** Standard Webhooks secrets; none leaves the call unsigned. */
  readonly signingSecrets: readonly string[];
}

/** One try at one job, as the function gets it. */
export interface Delivery {
  readonly jobId: string;
  readonly type: string;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly tenantId: string | null;
  readonly payload: unknown;
  /** The same for all attempts of the job. */
  readonly idempotencyKey: string;
  /** W3C Trace Context, where there is one. */
  readonly traceparent?: string;
  /** Where the function reports progress, or the end after an answer of 202. */
  readonly callback?: { readonly url: string; readonly token: string };
}

/** What the function's answer means. */
export type Dispatched =
  | {
      readonly kind: "completed";
      readonly status: number;
      readonly result: unknown;
      /** What is to be said of a result that is not the JSON that was meant. */
      readonly note?: string;
    }
  /** It works on, and tells the end itself. */
  | { readonly kind: "accepted"; readonly status: number }
  | {
      readonly kind: "failed";
      readonly status: number | null;
      readonly error: DispatchError;
      readonly retryable: boolean;
      readonly retryAfterMs?: number;
    };

export interface DispatchTools {
  readonly fetch: typeof globalThis.fetch;
  readonly clock: Clock;
  /** The time of day, in milliseconds since 1970. */
  readonly epochMs: () => number;
  /** The attempt's: when it aborts, the call is given up and the reason thrown. */
  readonly signal: AbortSignal;
}

/** The most of an answer that is quoted in an error. */
const MOST_QUOTED = 500;
/** Statuses by which a function asks to be left alone for a while. */
const BUSY: readonly number[] = [408, 425, 429, 503];

/** What is sent in one call. */
export interface Message {
  /** For the signature: the same for no other call. */
  readonly id: string;
  readonly body: string;
  readonly idempotencyKey: string;
  readonly traceparent: string | undefined;
}

/** A job as its function reads it. */
export function bodyOf(delivery: Delivery): Readonly<Record<string, unknown>> {
  return {
    id: delivery.jobId,
    type: delivery.type,
    attempt: delivery.attempt,
    max_attempts: delivery.maxAttempts,
    tenant_id: delivery.tenantId,
    payload: delivery.payload,
    ...(delivery.callback && { callback: delivery.callback }),
  };
}

/** Sends a job to its function and says what the answer means. Rejects only with the reason of the given signal. */
export async function dispatch(
  delivery: Delivery,
  target: Target,
  tools: DispatchTools,
): Promise<Dispatched> {
  const { jobId, attempt, idempotencyKey, traceparent } = delivery;
  const body = JSON.stringify(bodyOf(delivery));
  const message = { id: `job_${jobId}_${attempt}`, body, idempotencyKey, traceparent };
  return send(message, target, tools);
}

/** Makes one call and says what the answer means. Rejects only with the reason of the given signal. */
export async function send(
  message: Message,
  target: Target,
  { fetch, clock, epochMs, signal }: DispatchTools,
): Promise<Dispatched> {
  const limit = deadline(
    target.timeoutMs,
    () => new Error(`no answer within ${target.timeoutMs} ms`),
    signal,
    clock,
  );
  try {
    const headers = await headersOf(message, target, epochMs());
    const response = await fetch(target.url, {
      method: target.method,
      headers,
      body: message.body,
      redirect: "error",
      signal: limit.signal,
    });
    if (response.status === 202) {
      // It works on, and may write its answer as long as it does.
      response.body?.cancel().catch(() => undefined);
      return { kind: "accepted", status: 202 };
    }
    const text = await readText(response);
    return verdictOf(response, text, target, epochMs());
  } catch (error) {
    signal.throwIfAborted();
    return limit.signal.aborted ? timedOut(target) : unreachable(target, error);
  } finally {
    limit.release();
  }
}

async function headersOf(
  { id, body, idempotencyKey, traceparent }: Message,
  { headers, signingSecrets }: Target,
  now: number,
): Promise<Headers> {
  const message = { id, body, sentAt: new Date(now) };
  const ours = {
    "content-type": "application/json",
    "idempotency-key": idempotencyKey,
    ...(traceparent !== undefined && { traceparent }),
    ...(signingSecrets.length > 0 && (await signWebhook(message, signingSecrets))),
  };
  const sent = new Headers();
  // Set one by one: a name stands once, however it is written, and the last value counts.
  for (const [name, value] of [...Object.entries(headers), ...Object.entries(ours)]) {
    try {
      sent.set(name, value);
    } catch {
      // What is thrown quotes the value, which may be a secret.
      throw new TypeError(`the header ${JSON.stringify(name)} can't be sent with its value`);
    }
  }
  return sent;
}

/** The beginning of a body. What comes after it is not waited for. */
async function readText(response: Response): Promise<string> {
  if (!response.body) return "";
  const reader = response.body.getReader();
  const decoder = decoderFor(response.headers.get("content-type"));
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += decoder.decode(part.value, { stream: true });
    if (text.length > MOST_CHARS) {
      await reader.cancel();
      return text;
    }
  }
  return text + decoder.decode();
}

/** What can't be decoded becomes U+FFFD, in bytes of no text as well. */
function decoderFor(contentType: string | null): TextDecoder {
  const charset = /;\s*charset="?([^\s";]+)/i.exec(contentType ?? "")?.[1];
  try {
    return new TextDecoder(charset);
  } catch {
    return new TextDecoder();
  }
}

function verdictOf(response: Response, text: string, target: Target, now: number): Dispatched {
  const { status } = response;
  if (status >= 200 && status < 300) {
    const contentType = response.headers.get("content-type");
    return { kind: "completed", status, ...answerResult(text, contentType) };
  }
  const { functionName } = target;
  const failed = (code: DispatchFault, message: string, retryable: boolean): Dispatched => {
    const after = BUSY.includes(status)
      ? retryAfterMs(response.headers.get("retry-after"), now)
      : undefined;
    return {
      kind: "failed",
      status,
      error: new DispatchError(code, status, message),
      retryable,
      ...(after !== undefined && { retryAfterMs: after }),
    };
  };
  const said = quote(text);
  switch (status) {
    case 401:
      return failed(
        "FUNCTION_UNAUTHORIZED",
        "Authorization failed. Check SUPABASE_SERVICE_ROLE_KEY configuration.",
        true,
      );
    case 404:
      return failed(
        "FUNCTION_NOT_FOUND",
        `Edge Function not found. Verify function deployment: ${functionName}`,
        true,
      );
  }
  if (BUSY.includes(status)) {
    return failed("FUNCTION_BUSY", `${functionName} is busy (${status}): ${said}`, true);
  }
  if (status < 500) {
    return failed(
      "FUNCTION_REFUSED",
      `${functionName} refused the job (${status}): ${said}`,
      false,
    );
  }
  return failed(
    "FUNCTION_FAILED",
    `Function execution failed: ${said}. Check function logs.`,
    true,
  );
}

function timedOut({ functionName, timeoutMs }: Target): Dispatched {
  const message = `${functionName} did not answer within ${timeoutMs} ms`;
  const error = new DispatchError("FUNCTION_TIMEOUT", null, message);
  return { kind: "failed", status: null, error, retryable: true };
}

function unreachable({ functionName, url }: Target, cause: unknown): Dispatched {
  // Deno names the whole address, which may hold a secret; so the error itself, which would be kept with the job, is left out.
  const reason = reasonOf(cause).replaceAll(url, functionName);
  const message = `Network error calling ${functionName}: ${reason}. Check Supabase infrastructure status.`;
  const error = new DispatchError("FUNCTION_UNREACHABLE", null, message);
  return { kind: "failed", status: null, error, retryable: true };
}

/** How deep in an answer a message is looked for. */
const DEEPEST = 4;

/** What a function said of its failure: the message of a JSON answer, or the beginning of any other. */
function quote(text: string): string {
  const said = messageIn(parsed(text), DEEPEST) ?? text.trim();
  if (said === "") return "no message";
  return said.length > MOST_QUOTED ? `${said.slice(0, MOST_QUOTED)}…` : said;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function messageIn(answer: unknown, depth: number): string | undefined {
  if (typeof answer === "string") return answer;
  if (typeof answer !== "object" || answer === null || depth === 0) return undefined;
  const found = ["error", "message", "msg", "title"]
    .map((key) => (answer as Record<string, unknown>)[key])
    .find((value) => value !== undefined && value !== null);
  return messageIn(found, depth - 1);
}

/** fetch says "fetch failed"; what failed is in the cause. */
function reasonOf(error: unknown): string {
  const { cause } = error as { cause?: unknown };
  const inner = cause instanceof Error && cause.message !== "" ? cause : error;
  return inner instanceof Error ? inner.message : String(inner);
}
