import type { Offer } from "../db/claimed-jobs.ts";
import type { OfferTerms } from "../db/worker-functions.ts";
import type { Lane } from "./lane.ts";
import { armBell, type LaneLoopParts } from "./lane-loop.ts";
import { EVERY_QUEUE, type WorkerSettings } from "./options.ts";

/** How long an idle worker has to begin with a job that it is given; then the job goes to whoever asks. */
export const OFFER_MS = 2_000;

/** On which terms a worker takes jobs without asking; null for one that has to choose among them. */
export function offerTerms({
  tenantId,
  perTenant,
  fits,
  leaseMs,
}: WorkerSettings): OfferTerms | null {
  if (tenantId !== null || perTenant !== undefined || fits) return null;
  const secret = crypto.getRandomValues(new Uint8Array(16));
  const digits = [...secret].map((byte) => byte.toString(16).padStart(2, "0"));
  return { channel: `millrace_${digits.join("")}`, offerMs: Math.min(OFFER_MS, leaseMs) };
}

/** Takes over a job that came without being asked for: it is leased to us already. */
export function takeOffer(offer: Offer, lanes: readonly Lane[], parts: LaneLoopParts): void {
  const { settings, intake, executor, verdicts, phase, time } = parts;
  const queue = offer.job[3];
  const lane =
    lanes.find(({ name }) => name === queue) ?? lanes.find(({ name }) => name === EVERY_QUEUE);
  if (!lane) return;
  const deadline = time.toLocal(offer.expires_at);
  const isFree = lane.hasFreeSlot && lane.buffered === 0;
  phase.workCount += 1;
  const attempts = intake.claimed(lane, { jobs: [offer.job], now: offer.now }, deadline);
  // It may have come late: from a transaction that went on for long after the enqueue, or to a process that was busy.
  if (isFree && !phase.isStopping && deadline > settings.clock.now()) executor.fill(lane);
  else for (const attempt of attempts) verdicts.giveBack(attempt);
  if (phase.isStopping || !lane.hasFreeSlot) return;
  // The next one may come as soon as the bell is armed; and then the lanes look whether others came before.
  void armBell(parts).then((isArmed) => {
    if (!isArmed) lane.stir();
  });
}
