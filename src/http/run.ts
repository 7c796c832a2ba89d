import type { Clock } from "../core/clock.ts";
import type { Implementation } from "../core/implement.ts";
import type { Logger } from "../core/logger.ts";
import { pause } from "../core/signals.ts";
import { armEdgeBell, type RunPlan, ringWorker, workDue } from "../db/edge-functions.ts";
import type { Queryable, Sql } from "../db/sql.ts";
import { maintain } from "../db/worker-functions.ts";
import { createWorker } from "../worker/worker.ts";
import type { Budget } from "./budget.ts";
import type { Joiners } from "./joiners.ts";
import { type RunReport, RunTally } from "./run-report.ts";

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
  /** The same, for statements of the run's own: each ends in time. */
  readonly db: Queryable;
  readonly prepare: (signal: AbortSignal) => Promise<Prepared>;
  readonly budget: Budget;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What the worker calls itself in the database: no two that run at a time may have the same name. */
  readonly name: string;
  /** Aborts when the isolate is about to end: what is unfinished is given back. */
  readonly signal: AbortSignal;
  readonly joiners: Joiners;
}

type Fate = Pick<RunReport, "ended" | "remaining">;
const STOPPED: Fate = { ended: "stopped", remaining: true };

/** A job that falls due this soon is worth waiting for: a ring takes about as long. */
const LINGER_MS = 1_500;
const LONGEST_LEASE_MS = 30_000;
/** The shortest lease a worker may have; beyond the isolate's life by no more than that. */
const SHORTEST_LEASE_MS = 5_000;
/** An isolate that is about to end has no time to wait for the database. */
const RING_MS = 5_000;

/** Works until nothing is left, every tenant had its share, or the budget is spent; then sees to it that somebody comes back. */
export async function run(order: RunOrder, parts: RunParts): Promise<RunReport> {
  const { clock, logger, signal, joiners } = parts;
  const startedAt = clock.now();
  const tally = new RunTally();
  const { ended, remaining } = await work(order, parts, tally).catch((error: unknown): Fate => {
    if (!signal.aborted) throw error;
    return STOPPED;
  });
  joiners.shut();
  // A run that took nothing leaves it to the tick, or whoever can't take what is there would be rung for ever.
  const isWorthIt = tally.claimed > 0 || ended === "stopped";
  if (remaining && order.rings && isWorthIt) await ringAgain(parts);
  const durationMs = Math.round(clock.now() - startedAt);
  const report = tally.report({ duration_ms: durationMs, remaining, ended });
  logger.info("run.ended", { ...report });
  return report;
}

async function work(order: RunOrder, parts: RunParts, tally: RunTally): Promise<Fate> {
  const { clock, db, budget, signal, joiners } = parts;
  let isArmed = false;
  let hasWorked = false;
  /** What is there nobody could have just now: it is others', or does not fit any more. */
  let isStuck = false;
  while (!signal.aborted) {
    joiners.look();
    const prepared = await parts.prepare(signal);
    const types = prepared.handlers.map((handler) => handler.job.type);
    const due = await workDue(db, { types, tenantId: order.tenantId ?? null }, signal);
    const isDue = due.pending || due.next_due_in_ms === 0;
    const isShared = hasWorked && order.maxJobs !== undefined;
    if (isDue && !types.some((type) => budget.fits(usualMs(prepared, type)))) {
      return { ended: "budget", remaining: true };
    }
    if (isDue && isShared) return { ended: "share", remaining: true };
    if (isDue && !isStuck) {
      const claimed = tally.claimed;
      await workOnce(order, prepared, parts, tally);
      hasWorked = true;
      isStuck = tally.claimed === claimed;
      // What came after the bell was armed has rung it.
      if (!isStuck) isArmed = false;
      continue;
    }
    const isSoon = due.next_due_in_ms !== null && due.next_due_in_ms <= LINGER_MS;
    if (!isDue && isSoon && !isArmed && !isShared) {
      await pause(due.next_due_in_ms, signal, clock);
      continue;
    }
    if (order.rings && !isArmed) {
      await maintain(db, signal);
      isArmed = await armEdgeBell(db, signal);
      // And looks once more: a job that came before the bell was armed has rung nobody.
      isStuck = false;
      if (isArmed) continue;
    }
    if (joiners.close()) return { ended: "idle", remaining: isDue };
    [isArmed, isStuck] = [false, false];
  }
  return STOPPED;
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

async function ringAgain({ sql, logger }: RunParts): Promise<void> {
  // The tick comes all the same.
  const fate = await ringWorker(sql, AbortSignal.timeout(RING_MS)).catch((error: unknown) => {
    logger.warn("run.ring_failed", { error });
    return null;
  });
  logger.debug("run.rang", { fate });
}

function usualMs({ usualMs: known }: Prepared, type: string): number {
  return Object.hasOwn(known, type) ? (known[type] ?? 0) : 0;
}
