import { defineJob } from "../core/define-job.ts";
import type { Claim, HandlerContext } from "../core/handler.ts";
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
  const { id, type, attempt, tenantId, input, claim, signal } = context;
  const target = targetOf({ type, tenantId });
  const callback = await callbackOf(claim);
  const startedAt = tools.clock.now();
  const delivery: Delivery = {
    jobId: id,
    type,
    attempt: attempt.number,
    maxAttempts: attempt.max,
    tenantId,
    payload: input,
    idempotencyKey: `job_${id}`,
    ...(callback && { callback }),
  };
  const answer = await dispatch(delivery, target, { ...tools, signal });
  const durationMs = Math.round(tools.clock.now() - startedAt);
  context.note({ function: target.functionName, status: answer.status, duration_ms: durationMs });
  switch (answer.kind) {
    case "completed":
      return answer.result as JsonValue;
    case "accepted":
      if (!callback) return fail(unreportable(target, answer.status), { retryable: false });
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

/** The work may be under way; to begin it once more would not make its end known. */
function unreportable({ functionName }: Target, status: number): DispatchError {
  return new DispatchError(
    "FUNCTION_ANSWER_INVALID",
    status,
    `${functionName} answered 202 and has nowhere to report its end. Set QUEUE_CALLBACK_SECRET for the queue-worker.`,
  );
}
