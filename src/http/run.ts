import type { Clock } from "../core/clock.ts";
import type { Implementation } from "../core/implement.ts";
import type { Logger } from "../core/logger.ts";
import { pause } from "../core/signals.ts";
import { armEdgeBell, type RunPlan, ringWorker, workDue } from "../db/edge-functions.ts";
import type { Sql } from "../db/sql.ts";
import { maintain } from "../db/worker-functions.ts";
import { createWorker } from "../worker/worker.ts";
import type { Budget } from "./budget.ts";
import { type RunEnd, type RunReport, RunTally } from "./run-report.ts";

/** Which jobs a run takes. */
export interface RunOrder {
  readonly tenantId: string | undefined;
  /** The most jobs that run at a time. */
  readonly concurrency: number;
  /** The most jobs of each tenant; undefined: all there are. */
  readonly maxJobs: number | undefined;
  /** Whether the worker is rung again for what remains. Then it asks for all types. */
  readonly rings: boolean;
}

/** What can be worked on just now. */
export interface Prepared {
  /** Handlers of the types that the run serves. */
  readonly handlers: readonly Implementation[];
  readonly usualMs: RunPlan["usual_ms"];
}

export interface RunParts {
  readonly sql: Sql;
  readonly prepare: (signal: AbortSignal) => Promise<Prepared>;
  readonly budget: Budget;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What the worker calls itself in the database: no two that run at a time may have the same name. */
  readonly name: string;
  /** Aborts when the isolate is about to end: what is unfinished is given back. */
  readonly signal: AbortSignal;
  /** Whether somebody rang since this was asked last: there may be work that the last look did not see. */
  readonly wasRung: () => boolean;
  /** The run has looked for the last time: who rings from now on is not heard by it. */
  readonly onLastLook: () => void;
}

/** A job that falls due this soon is worth waiting for: a ring takes about as long. */
const LINGER_MS = 1_500;
const LONGEST_LEASE_MS = 30_000;
/** The shortest lease a worker may have; beyond the isolate's life by no more than that. */
const SHORTEST_LEASE_MS = 5_000;

/** Works until nothing is left, every tenant had its share, or the budget is spent; then sees to it that somebody comes back. */
export async function run(order: RunOrder, parts: RunParts): Promise<RunReport> {
  const { clock, logger } = parts;
  const startedAt = clock.now();
  const tally = new RunTally();
  const { ended, remaining } = await work(order, parts, tally).finally(parts.onLastLook);
  if (remaining && order.rings && tally.claimed > 0) await ringAgain(parts);
  const durationMs = Math.round(clock.now() - startedAt);
  const report = tally.report({ duration_ms: durationMs, remaining, ended });
  logger.info("run.ended", { ...report });
  return report;
}

async function work(
  order: RunOrder,
  parts: RunParts,
  tally: RunTally,
): Promise<{ ended: RunEnd; remaining: boolean }> {
  const { clock, sql, budget, signal } = parts;
  let isArmed = false;
  let claimed = -1;
  while (!signal.aborted) {
    const prepared = await parts.prepare(signal);
    const types = prepared.handlers.map((handler) => handler.job.type);
    const due = await workDue(sql, { types, tenantId: order.tenantId ?? null }, signal);
    if (due.pending || due.next_due_in_ms === 0) {
      const isSpent = !types.some((type) => budget.fits(usualMs(prepared, type)));
      if (isSpent) return { ended: "budget", remaining: true };
      if (claimed >= 0 && order.maxJobs !== undefined) return { ended: "share", remaining: true };
      // Nobody could have them just now: they are others', or they don't fit any more.
      if (tally.claimed === claimed) return { ended: "idle", remaining: true };
      claimed = tally.claimed;
      await workOnce(order, prepared, parts, tally);
      continue;
    }
    if (parts.wasRung()) {
      isArmed = false;
      continue;
    }
    if (isArmed || (claimed >= 0 && order.maxJobs !== undefined)) break;
    if (due.next_due_in_ms !== null && due.next_due_in_ms <= LINGER_MS) {
      await pause(due.next_due_in_ms, signal, clock);
      continue;
    }
    if (!order.rings) break;
    await maintain(sql, signal);
    // And looks once more: a job that came before the bell was armed has rung nobody.
    isArmed = await armEdgeBell(sql, signal);
    if (!isArmed) break;
  }
  return signal.aborted
    ? { ended: "stopped", remaining: true }
    : { ended: "idle", remaining: false };
}

async function workOnce(
  order: RunOrder,
  prepared: Prepared,
  parts: RunParts,
  tally: RunTally,
): Promise<void> {
  const { sql, budget, clock, logger, name, signal } = parts;
  const leaseMs = Math.min(LONGEST_LEASE_MS, Math.max(SHORTEST_LEASE_MS, budget.leftMs));
  const worker = createWorker({
    sql,
    handlers: prepared.handlers,
    name,
    concurrency: order.concurrency,
    leaseMs: Math.round(leaseMs),
    pollIntervalMs: 100,
    listen: false,
    details: { kind: "edge" },
    fits: (type) => budget.fits(usualMs(prepared, type)),
    onEvent: (event) => {
      tally.listen(event);
      if (event.kind === "claimed") budget.claimed(event.count);
    },
    logger,
    clock,
    ...(order.tenantId !== undefined && { tenantId: order.tenantId }),
    ...(order.maxJobs !== undefined && { maxJobsPerTenant: order.maxJobs }),
  });
  const giveUp = (): void => void worker.stop({ timeoutMs: 0 });
  const cancel = clock.setTimer(giveUp, budget.leftMs);
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    if (!signal.aborted) await worker.drain();
  } finally {
    cancel();
    signal.removeEventListener("abort", giveUp);
  }
}

async function ringAgain({ sql, logger, signal }: RunParts): Promise<void> {
  // The tick comes all the same.
  const fate = await ringWorker(sql, signal).catch((error: unknown) => {
    logger.warn("run.ring_failed", { error });
    return null;
  });
  logger.debug("run.rang", { fate });
}

function usualMs({ usualMs: known }: Prepared, type: string): number {
  return Object.hasOwn(known, type) ? (known[type] ?? 0) : 0;
}
