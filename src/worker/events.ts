import type { JobErrorJson } from "../core/errors.ts";
import type { LogFields, Logger, LogLevel } from "../core/logger.ts";
import type { Attempt } from "./attempt.ts";

/** Which attempt an event is about. */
export interface AttemptFacts {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly priority: string;
  readonly tenantId: string | null;
  readonly attempt: number;
  readonly maxAttempts: number;
  /** How long it could have run already when it was claimed; null when that is not known. */
  readonly waitMs: number | null;
}

/** How an attempt ended, once the database has accepted it. */
export type AttemptEnd =
  | { readonly kind: "completed" }
  | { readonly kind: "retried"; readonly error: JobErrorJson; readonly retryInMs: number }
  /** No attempt is left, or none was wanted: it is in the dead letters. */
  | { readonly kind: "failed"; readonly error: JobErrorJson }
  | { readonly kind: "snoozed"; readonly delayMs: number; readonly reason?: string }
  | { readonly kind: "discarded"; readonly reason: string }
  | { readonly kind: "released" }
  | { readonly kind: "cancelled" }
  /** It was passed on to somebody who tells its end. */
  | { readonly kind: "handed_over" }
  /** Somebody else may have the job. `reason`: what led to it, where this worker knows. */
  | { readonly kind: "lost"; readonly reason?: string }
  /** Sent twice because the first answer never came; the first may have arrived. */
  | { readonly kind: "unconfirmed" };

export type WorkerEvent =
  | { readonly kind: "claimed"; readonly lane: string; readonly count: number }
  | { readonly kind: "started"; readonly job: AttemptFacts }
  | (AttemptEnd & { readonly job: AttemptFacts; readonly durationMs: number })
  /** A handler goes on and keeps its slot although the outcome of its attempt is decided; told once, and rarely again. */
  | { readonly kind: "overrunning"; readonly job: AttemptFacts; readonly runningMs: number }
  /** A handler ended long after the outcome of its attempt was decided. */
  | { readonly kind: "overran"; readonly job: AttemptFacts; readonly durationMs: number }
  /**
   * This process did nothing else for so many milliseconds: neither did it extend leases, nor did other handlers go on. `types`: the
   * handlers that may have done it; none when it was something else, such as a debugger or a suspended machine.
   */
  | {
      readonly kind: "blocked";
      readonly types: readonly string[];
      readonly ms: number;
      readonly hint: string;
    }
  | { readonly kind: "disconnected"; readonly error: unknown }
  | { readonly kind: "reconnected"; readonly downMs: number };

const LEVELS: Readonly<Record<WorkerEvent["kind"], LogLevel>> = {
  claimed: "debug",
  started: "debug",
  completed: "info",
  retried: "info",
  failed: "warn",
  snoozed: "info",
  discarded: "info",
  released: "info",
  cancelled: "info",
  handed_over: "info",
  lost: "warn",
  unconfirmed: "info",
  overrunning: "warn",
  overran: "warn",
  blocked: "warn",
  disconnected: "warn",
  reconnected: "info",
};

/** Writes events to the log and hands them to whoever listens. Where nobody does, they are not even made. */
export class Events {
  readonly #logger: Logger;
  readonly #listener: ((event: WorkerEvent) => void) | undefined;
  readonly #wantsStarted: boolean;

  constructor(logger: Logger, listener: ((event: WorkerEvent) => void) | undefined) {
    this.#logger = logger;
    this.#listener = listener;
    this.#wantsStarted = this.wants("started");
  }

  wants(kind: WorkerEvent["kind"]): boolean {
    return this.#listener !== undefined || (this.#logger.enabled?.(LEVELS[kind]) ?? true);
  }

  started(attempt: Attempt): void {
    if (this.#wantsStarted) this.emit({ kind: "started", job: factsOf(attempt) });
  }

  ended(attempt: Attempt, end: AttemptEnd): void {
    if (!this.wants(end.kind)) return;
    this.emit({ ...end, job: factsOf(attempt), durationMs: attempt.elapsedMs });
  }

  overrunning(attempt: Attempt, runningMs: number): void {
    this.emit({ kind: "overrunning", job: factsOf(attempt), runningMs });
  }

  overran(attempt: Attempt, durationMs: number): void {
    this.emit({ kind: "overran", job: factsOf(attempt), durationMs });
  }

  emit(event: WorkerEvent): void {
    this.#logger[LEVELS[event.kind]](nameOf(event), fieldsOf(event));
    // A listener is a guest here; its faults must not stop the work.
    const onFault = (error: unknown): void =>
      this.#logger.error("worker.listener_failed", { error });
    try {
      const answer: unknown = this.#listener?.(event);
      if (answer instanceof Promise) answer.catch(onFault);
    } catch (error) {
      onFault(error);
    }
  }
}

function factsOf({ row, waitMs }: Attempt): AttemptFacts {
  return {
    id: row[1],
    type: row[2],
    queue: row[3],
    priority: row[4],
    tenantId: row[6],
    attempt: row[7],
    maxAttempts: row[8] + 1,
    waitMs,
  };
}

function nameOf(event: WorkerEvent): string {
  if ("job" in event) return `job.${event.kind}`;
  if (event.kind === "claimed") return "jobs.claimed";
  return event.kind === "blocked" ? "worker.blocked" : `database.${event.kind}`;
}

function fieldsOf(event: WorkerEvent): LogFields {
  if (!("job" in event)) {
    const { kind: _kind, ...fields } = event;
    return fields;
  }
  const { job } = event;
  return {
    jobId: job.id,
    type: job.type,
    attempt: job.attempt,
    ...(job.tenantId !== null && { tenantId: job.tenantId }),
    ...("durationMs" in event && { durationMs: Math.round(event.durationMs) }),
    ...("runningMs" in event && { runningMs: Math.round(event.runningMs) }),
    ...("retryInMs" in event && { retryInMs: event.retryInMs }),
    ...("delayMs" in event && { delayMs: event.delayMs }),
    // No texts of errors or reasons: they may quote the payload.
    ...("error" in event && { error: event.error.name }),
    ...("error" in event && event.error.code !== undefined && { code: event.error.code }),
  };
}
