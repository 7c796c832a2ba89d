import { defineJob } from "../core/define-job.ts";
import type { BatchItem, Claim, HandlerContext } from "../core/handler.ts";
import { type Implementation, implement } from "../core/implement.ts";
import type { JsonValue } from "../core/json.ts";
import { fail } from "../core/outcomes.ts";
import { type Delivery, type DispatchTools, dispatch, type Target } from "./dispatch.ts";
import { DispatchError } from "./dispatch-error.ts";

export interface DispatchParts {
  /** Where a job goes. Throws NoRouteError. */
  readonly targetOf: (job: { readonly type: string; readonly tenantId: string | null }) => Target;
  /** Where a function reports on this attempt; undefined where it can't. */
  readonly callbackOf: (claim: Claim) => Promise<Delivery["callback"]>;
  readonly tools: Omit<DispatchTools, "signal">;
}

/** The handler of a type whose jobs are sent to a function: its answer decides, and what was called is kept with the attempt. */
export function dispatchHandler(type: string, parts: DispatchParts): Implementation {
  return implement(defineJob(type), (context) => send(context, parts));
}

async function send(
  context: HandlerContext,
  { targetOf, callbackOf, tools }: DispatchParts,
): Promise<unknown> {
  const { type, tenantId, claim, signal } = context;
  const target = targetOf({ type, tenantId });
  const callback = await callbackOf(claim);
  const startedAt = tools.clock.now();
  const delivery = deliveryOf(context, callback);
  const answer = await dispatch(delivery, target, { ...tools, signal });
  const durationMs = Math.round(tools.clock.now() - startedAt);
  context.note({
    function: target.functionName,
    status: answer.status,
    duration_ms: durationMs,
    trace_id: delivery.traceparent?.slice(3, 35) ?? null,
    ...(answer.kind === "completed" && answer.note !== undefined && { answer: answer.note }),
  });
  switch (answer.kind) {
    case "completed":
      return answer.result as JsonValue;
    case "accepted":
      if (!callback) return fail(cannotReport(target), { retryable: false });
      await context.handOver(target.reportMs);
      return undefined;
    case "failed": {
      const { error, retryable, retryAfterMs } = answer;
      return fail(error, {
        retryable,
        ...(retryAfterMs !== undefined && { retryAfter: retryAfterMs }),
      });
    }
  }
}

/** What is sent of a job. */
export function deliveryOf(
  { id, type, attempt, tenantId, input }: BatchItem,
  callback: Delivery["callback"],
): Delivery {
  return {
    jobId: id,
    type,
    attempt: attempt.number,
    maxAttempts: attempt.max,
    tenantId,
    payload: input,
    idempotencyKey: `job_${id}`,
    traceparent: newTraceparent(),
    ...(callback && { callback }),
  };
}

export function cannotReport({ functionName }: Target): DispatchError {
  return new DispatchError(
    "FUNCTION_ANSWER_INVALID",
    202,
    `${functionName} answered 202, but was given nowhere to report the end: set QUEUE_CALLBACK_SECRET and SUPABASE_URL`,
  );
}

/** A trace of its own for each attempt (W3C Trace Context, version 00, sampled): function's logs and the attempt's note share its id. */
export function newTraceparent(): string {
  const hex = (bytes: number): string =>
    Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) =>
      byte.toString(16).padStart(2, "0"),
    ).join("");
  return `00-${hex(16)}-${hex(8)}-01`;
}
