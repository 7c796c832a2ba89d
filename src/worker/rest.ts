import type { Lane } from "./lane.ts";
import type { LaneLoopParts } from "./lane-loop.ts";

/** After work ran out it often comes back soon; so the first looks are quick. */
export const EMPTY_WAITS_MS = [5, 20, 50, 100, 200, 500] as const;
/** With a bell too, the first looks come soon: an enqueue that was under way while the bell was armed has not seen it. */
const ARMED_WAITS_MS = [5, 30, 200] as const;

/** There may be work, but none that should still be begun. */
export function nothingFits(lane: Lane, { settings, phase }: LaneLoopParts): void {
  lane.emptyAtWork = phase.workCount;
  lane.nextClaimAt = settings.clock.now() + settings.pollIntervalMs;
  phase.onIdle();
}

/** Nothing to claim: asks to be woken where that is possible, and says when to look again. */
export async function rest(
  lane: Lane,
  nextDueMs: number | null,
  parts: LaneLoopParts,
): Promise<void> {
  const { settings, doorbell, phase } = parts;
  const { clock, random, pollIntervalMs } = settings;
  lane.marks.clear();
  lane.isFlowing = false;
  lane.emptyClaims += 1;
  phase.onIdle();
  if (!phase.isStopping && (await armBell(parts))) return;
  const waits: readonly number[] = doorbell.isArmed ? ARMED_WAITS_MS : EMPTY_WAITS_MS;
  const poll =
    Math.min(waits[lane.emptyClaims - 1] ?? pollIntervalMs, pollIntervalMs) *
    (0.9 + 0.2 * random());
  // Due already, and not to be had: somebody else is at it. Don't run against a closed door.
  const due = Math.max(nextDueMs ?? Infinity, Math.min(lane.emptyClaims * 5, 100));
  lane.nextClaimAt = clock.now() + Math.min(poll, due);
}

/** Asks to be woken, where that is possible and not done yet; true when it was done now. */
export async function armBell({ doorbell, link }: LaneLoopParts): Promise<boolean> {
  if (!doorbell.isListening || doorbell.isArmed || link.isDown) return false;
  try {
    // After it every lane looks once more: a job may have come before the bell was armed.
    await doorbell.arm();
    return true;
  } catch {
    // Then the next look is a matter of time, as without a bell.
    return false;
  }
}
