import type { Logger } from "../core/logger.ts";
import type { ClaimedRow } from "../db/claimed-jobs.ts";
import type { AdvanceAnswer } from "../db/worker-functions.ts";
import { Attempt } from "./attempt.ts";
import type { AttemptEnd, Events } from "./events.ts";
import type { Lane } from "./lane.ts";
import type { Ends } from "./later.ts";
import type { Lease, LeaseBook } from "./lease-book.ts";
import type { Route } from "./routes.ts";
import type { End, RestEntry, SettlementBatch } from "./settlements.ts";

export interface IntakeParts {
  readonly book: LeaseBook;
  readonly events: Events;
  /** What led to the loss of a lease, where this worker knows. */
  readonly whyLost: () => string | undefined;
  readonly logger: Logger;
  readonly routes: ReadonlyMap<string, Route>;
}

/** Reads what the database answered: which ends it accepted, and which jobs are ours now. */
export class Intake {
  readonly #parts: IntakeParts;

  constructor(parts: IntakeParts) {
    this.#parts = parts;
  }

  /** Closes what was settled; returns what was not, because somebody else holds its lease. */
  settled({ whole, done, rest }: SettlementBatch, answer: AdvanceAnswer): Ends {
    const { book, events } = this.#parts;
    const refused = new Set(answer.refused.map(([lease, id]) => `${lease}:${id}`));
    const busy = new Set(answer.busy?.map(([lease, id]) => `${lease}:${id}`));
    const left: { done: Attempt[]; rest: RestEntry[] } = { done: [], rest: [] };
    const tellsCompleted = events.wants("completed");
    for (const lease of whole) {
      if (answer.busy_leases?.includes(lease.id)) {
        // From now on each job of it is told by itself.
        lease.isWhole = false;
        left.done.push(...lease.attempts);
        continue;
      }
      const isLost = answer.lost?.includes(lease.id) ?? false;
      for (const attempt of lease.attempts) {
        if (isLost) this.refuse(attempt);
        else {
          book.close(attempt);
          if (tellsCompleted) events.ended(attempt, { kind: "completed" });
        }
      }
    }
    for (const attempt of done) {
      if (refused.size > 0 && refused.has(keyOf(attempt))) this.refuse(attempt);
      else if (busy.size > 0 && busy.has(keyOf(attempt))) left.done.push(attempt);
      else {
        book.close(attempt);
        if (tellsCompleted) events.ended(attempt, { kind: "completed" });
      }
    }
    for (const entry of rest) {
      if (refused.has(keyOf(entry.attempt))) this.refuse(entry.attempt);
      else if (busy.has(keyOf(entry.attempt))) left.rest.push(entry);
      else this.accept(entry, answer.statuses[entry.attempt.id], answer.retry_in_ms);
    }
    return left;
  }

  /** The lease was lost, or the job had been settled already: normal, and not for us to change. */
  refuse(attempt: Attempt): void {
    if (attempt.isClosed) return;
    this.#parts.book.close(attempt);
    const reason = attempt.isUncertain ? undefined : this.#parts.whyLost();
    const kind = attempt.isUncertain ? "unconfirmed" : "lost";
    this.#parts.events.ended(attempt, { kind, ...(reason !== undefined && { reason }) });
  }

  accept(
    entry: End,
    status: string | undefined,
    retryInMs: AdvanceAnswer["retry_in_ms"] = {},
  ): void {
    this.#parts.book.close(entry.attempt);
    this.#parts.events.ended(entry.attempt, endOf(entry, status, retryInMs[entry.attempt.id]));
  }

  /**
   * Puts claimed jobs into the lane's buffer. `deadline` is the local time until which their leases hold, `size` the length of the
   * answer in characters.
   */
  claimed(lane: Lane, answer: AdvanceAnswer, deadline: number, size: number): void {
    const chars = size / Math.max(1, answer.jobs.length);
    for (const attempt of this.adopt(lane, answer, deadline)) {
      attempt.chars = chars;
      lane.push(attempt);
    }
  }

  /** Makes attempts of jobs that are leased to us; they are not in the lane's buffer yet. */
  adopt(
    lane: Lane,
    answer: Pick<AdvanceAnswer, "jobs" | "now">,
    deadline: number,
  ): readonly Attempt[] {
    const { book, events, routes, logger } = this.#parts;
    const attempts: Attempt[] = [];
    const leases = new Map<string, Lease>();
    const leaseOf = (id: string): Lease => {
      const lease = leases.get(id) ?? book.open(id, deadline);
      leases.set(id, lease);
      return lease;
    };
    for (const row of answer.jobs) {
      const route = routes.get(row[2]);
      if (!route) {
        // Only claimed types come back; if not, the lease runs out and another worker gets the job.
        logger.error("job.without_handler", { jobId: row[1], type: row[2] });
        leaseOf(row[0]).isWhole = false;
        continue;
      }
      const lease = leaseOf(row[0]);
      const attempt = new Attempt(row, lease, lane, route, waitOf(row, answer.now));
      lease.attempts.push(attempt);
      lease.unsettled += 1;
      attempts.push(attempt);
    }
    for (const lease of leases.values()) if (lease.attempts.length === 0) book.drop(lease);
    if (events.wants("claimed")) {
      events.emit({ kind: "claimed", lane: lane.name, count: answer.jobs.length });
    }
    return attempts;
  }
}

function keyOf(attempt: Attempt): string {
  return `${attempt.lease.id}:${attempt.id}`;
}

/** Of a later attempt we don't know since when it could run. */
function waitOf(row: ClaimedRow, now: number): number | null {
  return row[7] === 1 ? Math.max(0, now - Math.max(row[9], row[10] ?? 0)) : null;
}

function endOf(
  { outcome, detail }: End,
  status: string | undefined,
  retryInMs: number | undefined,
): AttemptEnd {
  if (status === "cancelled") return { kind: "cancelled" };
  switch (outcome) {
    case "snoozed":
      return {
        kind: "snoozed",
        delayMs: detail.delay_ms ?? 0,
        ...(detail.reason !== undefined && { reason: detail.reason }),
      };
    case "discarded":
      return { kind: "discarded", reason: detail.reason ?? "" };
    case "released":
      return { kind: "released" };
    case "cancelled":
      return { kind: "cancelled" };
    case "completed":
      return { kind: "completed" };
  }
  const error = detail.error as { name: string; message: string };
  if (status === "failed") return { kind: "failed", error };
  // Sent before, and the answer of that time got lost.
  if (status === undefined) return { kind: "unconfirmed" };
  // No word of when: so short a delay is over already.
  return { kind: "retried", error, retryInMs: retryInMs ?? 0 };
}
