import { backoffDelay } from "../core/backoff.ts";
import { pause } from "../core/signals.ts";
import { extendLeases } from "../db/extend-leases.ts";
import { dropOldPartitions, heartbeatWorker, maintain } from "../db/worker-functions.ts";
import type { Attempt } from "./attempt.ts";
import type { Blocks } from "./blocks.ts";
import type { ChildSweep } from "./child-sweep.ts";
import type { LeaseBook } from "./lease-book.ts";
import type { Link } from "./link.ts";
import { OFFER_MS } from "./offer-terms.ts";
import type { WorkerSettings } from "./options.ts";
import type { Overruns } from "./overruns.ts";
import type { Verdicts } from "./verdicts.ts";

export interface UpkeepParts {
  readonly settings: WorkerSettings;
  readonly worker: () => number;
  readonly link: Link;
  readonly book: LeaseBook;
  readonly verdicts: Verdicts;
  readonly blocks: Blocks;
  /** The attempts whose handlers run. */
  readonly running: ReadonlySet<Attempt>;
  readonly overruns: Overruns;
  readonly children: ChildSweep;
  /** What the sign of life tells of this worker. */
  readonly describe: () => unknown;
  /** The worker's row is gone: sign in again. */
  readonly register: (signal: AbortSignal) => Promise<void>;
}

const HEARTBEAT_MS = 10_000;
const MAINTAIN_MS = 5_000;
const RETENTION_MS = 15_000;
/** Maintenance waits until leases that are about to end were extended: it would take them away. */
const LATE_WAIT_MS = 50;
/** Between tries to extend leases after one failed. */
const EXTEND_RETRY = { baseMs: 100, capMs: 1_000, jitter: 0.5 };

/** Keeps leases alive: extends all of them when one has lived through a third of its time. Never rejects. */
export async function keepLeases(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { book } = parts;
  const { lifeline, clock, leaseMs, random, logger } = parts.settings;
  let failures = 0;
  warm(parts, signal);
  while (!signal.aborted) {
    const wait =
      failures === 0 ? lookMs(leaseMs) : backoffDelay(EXTEND_RETRY, failures - 1, random());
    await pause(wait, signal, clock);
    try {
      const isDue = book.firstDeadline - clock.now() <= (leaseMs * 2) / 3;
      if (isDue && !signal.aborted) await extend(parts);
      failures = 0;
    } catch (error) {
      failures += 1;
      logger.debug("lease.extend_failed", { error });
    }
  }
  await lifeline.close();
}

/** Makes the connection and what it has to learn before the first lease needs it: that may be a short one. */
function warm({ settings, worker }: UpkeepParts, signal: AbortSignal): void {
  const { lifeline, leaseMs } = settings;
  const request = { worker: worker(), leases: [], leaseMs };
  extendLeases(lifeline, request, signal).catch(() => undefined);
}

/** Between two looks at how long the leases still hold. */
function lookMs(leaseMs: number): number {
  return Math.min(leaseMs, OFFER_MS) / 3;
}

export type ExtendParts = Pick<UpkeepParts, "settings" | "link" | "book" | "verdicts" | "worker">;

/**
 * Extends all leases, or those that are named. What the database does not have any more is lost; handlers hear which of their jobs are to be cancelled. Answers
 * whether all could be extended: those that somebody else holds locked could not.
 */
export async function extend(
  { settings, link, book, verdicts, worker }: ExtendParts,
  // No longer than there is time for another try.
  patienceMs: number = settings.leaseMs / 3,
  leases: readonly string[] = book.ids,
): Promise<boolean> {
  const { lifeline, clock, leaseMs } = settings;
  if (leases.length === 0) return true;
  const sentAt = clock.now();
  const request = { worker: worker(), leases, leaseMs };
  const answer = await link.call((signal) => extendLeases(lifeline, request, signal), patienceMs);
  book.extend(answer.alive, sentAt + leaseMs);
  // Asked again at the next look, and one look may fail.
  book.hold(answer.busy, sentAt + 2 * lookMs(leaseMs), leaseMs);
  for (const lease of book.missing(leases, [...answer.alive, ...answer.busy]))
    verdicts.loseAll(lease);
  for (const [lease, id] of answer.cancelled) {
    const attempt = book.find(lease, id);
    if (attempt) verdicts.cancel(attempt);
  }
  return answer.busy.length === 0;
}

/** Shows that this worker lives. Never rejects. */
export async function keepAlive(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  await every(HEARTBEAT_MS, parts, signal, "worker.heartbeat_failed", async () => {
    if (!(await beat(parts))) await parts.link.call(parts.register);
  });
}

/** One sign of life, with news of this worker; false when the database does not know it any more. */
export function beat({ settings, link, worker, describe }: UpkeepParts): Promise<boolean> {
  return link.call((patience) =>
    heartbeatWorker(settings.lifeline, worker(), describe(), patience),
  );
}

/** Does the queue's housekeeping; all workers do, and whoever comes first finds the work. Never rejects. */
export async function keepHouse(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { settings, link, book } = parts;
  const { clock } = settings;
  await every(MAINTAIN_MS, parts, signal, "worker.maintain_failed", async () => {
    while (book.isOverdue(clock.now()) && !signal.aborted) await pause(LATE_WAIT_MS, signal, clock);
    const { swept } = await link.call((patience) => maintain(settings.sql, patience));
    // That was one slice; there may be more.
    if (Number(swept) > 0) parts.children.wake();
  });
}

/** Drops what is past its retention: apart, because it needs locks that nothing else should hold. Never rejects. */
export async function keepRetention(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { settings, link } = parts;
  await every(RETENTION_MS, parts, signal, "worker.retention_failed", async () => {
    await link.call((patience) => dropOldPartitions(settings.sql, patience));
  });
}

/** With jitter, so that workers that started together don't act together. The first time comes soon. */
async function every(
  periodMs: number,
  { settings, link }: UpkeepParts,
  signal: AbortSignal,
  failure: string,
  act: () => Promise<void>,
): Promise<void> {
  const { clock, random, logger } = settings;
  await pause(random() * 1_000, signal, clock);
  while (!signal.aborted) {
    await link.ready(signal);
    try {
      if (!signal.aborted) await act();
    } catch (error) {
      if (!link.isDown && !signal.aborted) logger.warn(failure, { error });
    }
    await pause(periodMs * (0.75 + 0.5 * random()), signal, clock);
  }
}
