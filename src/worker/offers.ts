import { turn } from "../core/turn.ts";
import type { Offer } from "../db/claimed-jobs.ts";
import { extendLeases } from "../db/extend-leases.ts";
import type { Attempt } from "./attempt.ts";
import type { Lane } from "./lane.ts";
import type { LaneLoopParts } from "./lane-loop.ts";
import { EVERY_QUEUE } from "./options.ts";

/** Takes over a job that came without being asked for: it is leased to us already, but only for so long that we can accept it. */
export async function takeOffer(
  offer: Offer,
  lanes: readonly Lane[],
  parts: LaneLoopParts,
): Promise<void> {
  const { settings, intake, executor, verdicts, phase, time } = parts;
  const queue = offer.job[3];
  const lane =
    lanes.find(({ name }) => name === queue) ?? lanes.find(({ name }) => name === EVERY_QUEUE);
  if (!lane) return;
  const deadline = time.toLocal(offer.expires_at);
  phase.workCount += 1;
  const [attempt] = intake.adopt(lane, { jobs: [offer.job], now: offer.now }, deadline);
  if (!attempt) return;
  // It may have come late: from a transaction that went on for long after the enqueue, or to a process that was busy.
  if (!lane.isOpen || phase.isStopping || deadline <= settings.clock.now()) {
    verdicts.giveBack(attempt);
    lane.stir();
    return;
  }
  lane.push(attempt);
  if (executor.givesWay(attempt.type)) {
    executor.fill(lane);
    void accept(attempt, parts);
    return;
  }
  void accept(attempt, parts);
  // A handler may keep the process busy for longer than the offer holds. Two turns, because drivers write what they are asked to
  // in a turn of their own. That is all that can be done: a pool may have no connection that is free.
  await turn();
  await turn();
  executor.fill(lane);
}

/** Makes the offered lease a common one, and wants the next job if there is a slot for it. Never rejects. */
async function accept({ lease, lane, state }: Attempt, parts: LaneLoopParts): Promise<void> {
  const { settings, doorbell, link, book, verdicts } = parts;
  const { sql, clock, leaseMs } = settings;
  const sentAt = clock.now();
  const isYetToRun = state === "buffered";
  const hasMore = lane.concurrency - lane.running - (isYetToRun ? 1 : 0) > 0;
  const request = { worker: parts.worker(), leases: [lease.id], leaseMs };
  lease.isAccepting = true;
  // On a link that swallows the answer the offer's end counts again, before the call itself is given up.
  const giveUp = clock.setTimer(() => {
    lease.isAccepting = false;
  }, leaseMs / 3);
  try {
    if (hasMore && (await doorbell.accept(lease.id))) {
      book.extend([lease.id], sentAt + leaseMs);
      return;
    }
    // Ended already, or locked by somebody at that moment, or lost: that is told apart only where it matters.
    if (hasMore && lease.attempts.every(({ state }) => state === "ended")) return;
    const { alive, busy } = await link.call((signal) => extendLeases(sql, request, signal));
    if (alive.length > 0) book.extend([lease.id], sentAt + leaseMs);
    else if (busy.length === 0) verdicts.loseAll(lease);
  } catch {
    // Those who keep leases alive try again, while it holds.
    lane.stir();
  } finally {
    giveUp();
    lease.isAccepting = false;
  }
}
