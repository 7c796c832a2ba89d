import { pause } from "../core/signals.ts";
import { turn } from "../core/turn.ts";
import { NOTABLE_MS } from "./blocks.ts";
import {
  beat,
  extend,
  keepAlive,
  keepHouse,
  keepLeases,
  keepRetention,
  type UpkeepParts,
} from "./upkeep.ts";

/** Between two looks for leases that ran out. */
const LONGEST_BLINK_MS = 500;
/** How long the database is asked about leases that ran out while this process was blocked, and how soon again. */
const LONGEST_ASK_MS = 5_000;
const ASK_AGAIN_MS = 100;

/**
 * Stops handlers whose lease could not be extended in time: from then on another worker may have their jobs. On a link that swallows
 * everything calls take long to fail, so this waits for none. But where the process itself was blocked nobody has asked, and the lease
 * is most likely alive: then the database is asked first, for a short time. Never rejects.
 */
async function watchLeases(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { settings, book, verdicts, blocks, link } = parts;
  const { clock, leaseMs } = settings;
  while (!signal.aborted) {
    await pause(blinkMs(leaseMs), signal, clock);
    if (book.expired(clock.now()).length === 0) continue;
    // An answer that has come meanwhile is heard first.
    await turn();
    const expired = book.expired(clock.now());
    const block = blocks.since(clock.now() - leaseMs / 3);
    if (expired.length > 0 && block && !link.wasDownBefore(block.endedAt - block.ms)) {
      await ask(parts, signal);
    }
    const now = clock.now();
    for (const lease of expired) if (lease.deadline <= now && !lease.isLost) verdicts.expire(lease);
  }
}

/** Extends the leases although their time is over; tries again on a connection that broke meanwhile, but not for long. */
async function ask(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { clock, leaseMs, logger } = parts.settings;
  const until = clock.now() + Math.min(leaseMs / 3, LONGEST_ASK_MS);
  for (let left = until - clock.now(); left > 0 && !signal.aborted; left = until - clock.now()) {
    try {
      // A settlement of our own that is under way holds them locked for a moment.
      if (await extend(parts, left)) return;
    } catch (error) {
      logger.debug("lease.extend_failed", { error });
    }
    await pause(Math.min(ASK_AGAIN_MS, left), signal, clock);
  }
}

function blinkMs(leaseMs: number): number {
  return Math.min(leaseMs / 20, LONGEST_BLINK_MS);
}

/** Notices when this process is kept from its work, by a timer that comes too late. Never rejects. */
async function watchLoop(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  const { settings, blocks, running } = parts;
  const { clock, leaseMs } = settings;
  while (!signal.aborted) {
    const dueAt = clock.now() + blinkMs(leaseMs);
    await pause(blinkMs(leaseMs), signal, clock);
    const lateMs = clock.now() - dueAt;
    if (signal.aborted) return;
    if (lateMs < NOTABLE_MS) blocks.inTime();
    else if (blocks.late(lateMs, running)) void tellSoon(parts);
  }
}

/** So that an operator can read it before the next sign of life is due. Never rejects. */
async function tellSoon(parts: UpkeepParts): Promise<void> {
  const { logger } = parts.settings;
  await beat(parts).catch((error: unknown) => logger.debug("worker.heartbeat_failed", { error }));
}

/** Tells of handlers that don't stop. Never rejects. */
function watchOverruns(parts: UpkeepParts, signal: AbortSignal): Promise<void> {
  return parts.overruns.watch(() => void tellSoon(parts), signal);
}

/** All that goes on beside the work of a worker. */
export const UPKEEP: readonly ((parts: UpkeepParts, signal: AbortSignal) => Promise<void>)[] = [
  keepLeases,
  watchLoop,
  watchLeases,
  watchOverruns,
  keepAlive,
  keepHouse,
  keepRetention,
];
