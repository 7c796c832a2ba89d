import type { WorkerEvent } from "../../worker/events.ts";
import type { AttemptEnded } from "./attempt-line.ts";

/** One attempt as a line of NDJSON; the shape is documented in docs/cli.md. */
export function attemptJson(event: AttemptEnded, at: Date): object {
  const { job } = event;
  return {
    event: "attempt",
    at: at.toISOString(),
    id: job.id,
    type: job.type,
    queue: job.queue,
    priority: job.priority,
    tenant_id: job.tenantId,
    attempt: job.attempt,
    max_attempts: job.maxAttempts,
    outcome: event.kind,
    duration_ms: Math.round(event.durationMs),
    wait_ms: job.waitMs === null ? null : Math.round(job.waitMs),
    retry_in_ms: retryIn(event),
    error: "error" in event ? { name: event.error.name, message: event.error.message } : null,
    reason: "reason" in event ? (event.reason ?? null) : null,
  };
}

function retryIn(event: AttemptEnded): number | null {
  if (event.kind === "snoozed") return event.delayMs;
  return event.kind === "retried" ? (event.retryInMs ?? null) : null;
}

export function isAttemptEnd(event: WorkerEvent): event is AttemptEnded {
  return "job" in event && "durationMs" in event;
}
