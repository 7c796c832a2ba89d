import { backoffDelay } from "../core/backoff.ts";
import { pause } from "../core/signals.ts";
import { turn } from "../core/turn.ts";
import { extendLeases, heartbeatWorker, maintain } from "../db/worker-functions.ts";
import type { LeaseBook } from "./lease-book.ts";
import type { Link } from "./link.ts";
import { OFFER_MS } from "./offer-terms.ts";
import type { WorkerSettings } from "./options.ts";
import type { Verdicts } from "./verdicts.ts";

export interface UpkeepParts {
  readonly settings: WorkerSettings;
  readonly worker: () => number;
  readonly link: Link;
  readonly book: LeaseBook;
  readonly verdicts: Verdicts;
  /** What the sign of life tells of this worker. */
  readonly describe: () => unknown;
  /** The worker's row is gone: sign in again. */
  readonly register: () => Promise<void>;
}

const HEARTBEAT_MS = 10_000;
const MAINTAIN_MS = 5_000;
/** Between two looks for leases that ran out. */
const LONGEST_BLINK_MS = 500;
/** Between tries to extend leases after one failed. */
const EXTEND_RETRY = { baseMs: 100, capMs: 1_000, jitter: 0.5 };

/** Keeps leases alive: extends all of them when one has lived through a third of its time. Never rejects. */
export async function keepLeases(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { book } = parts;
  const { lifeline, clock, leaseMs, random, logger } = parts.settings;
  let failures = 0;
  while (!signal.aborted) {
    const wait =
      failures === 0
        ? Math.min(leaseMs, OFFER_MS) / 3
        : backoffDelay(EXTEND_RETRY, failures - 1, random());
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

async function extend({ settings, link, book, verdicts, worker }: UpkeepParts): Promise<void> {
  const { lifeline, clock, leaseMs } = settings;
  const leases = book.ids;
  if (leases.length === 0) return;
  const sentAt = clock.now();
  const request = { worker: worker(), leases, leaseMs };
  // No longer than there is time for another try.
  const answer = await link.call((signal) => extendLeases(lifeline, request, signal), leaseMs / 3);
  book.extend(answer.alive, sentAt + leaseMs);
  for (const lease of book.missing(leases, answer.alive)) verdicts.loseAll(lease);
  for (const [lease, id] of answer.cancelled) {
    const attempt = book.find(lease, id);
    if (attempt) verdicts.cancel(attempt);
  }
}

/**
 * Stops handlers whose lease could not be extended in time: from then on another worker may have their jobs. Does not depend on any
 * call, because on a link that swallows everything calls take long to fail. Never rejects.
 */
export async function watchLeases(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { settings, book, verdicts } = parts;
  const { clock, leaseMs } = settings;
  while (!signal.aborted) {
    await pause(Math.min(leaseMs / 20, LONGEST_BLINK_MS), signal, clock);
    if (book.expired(clock.now()).length === 0) continue;
    // This process may have been busy: an answer that has come meanwhile is heard first.
    await turn();
    for (const lease of book.expired(clock.now())) verdicts.loseAll(lease);
  }
}

/** Shows that this worker lives. Never rejects. */
export async function keepAlive(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { settings, link } = parts;
  await every(HEARTBEAT_MS, parts, signal, "worker.heartbeat_failed", async () => {
    const isKnown = await link.call((patience) =>
      heartbeatWorker(settings.lifeline, parts.worker(), parts.describe(), patience),
    );
    if (!isKnown) await parts.register();
  });
}

/** Does the queue's housekeeping; all workers do, and whoever comes first finds the work. Never rejects. */
export async function keepHouse(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { settings, link } = parts;
  await every(MAINTAIN_MS, parts, signal, "worker.maintain_failed", async () => {
    await link.call((patience) => maintain(settings.sql, patience));
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
