import { isAboutData, isStatementFault } from "../db/sqlstate.ts";
import { advance } from "../db/worker-functions.ts";
import type { Attempt } from "./attempt.ts";
import type { Lane } from "./lane.ts";
import type { LaneLoopParts } from "./lane-loop.ts";
import { countEnds, type Ends } from "./later.ts";
import { encodeBatch } from "./settlement-text.ts";
import type { SettlementBatch } from "./settlements.ts";

/** Into so many pieces a part is taken that was refused. */
const PIECES = 16;

/**
 * The database refused a batch as a whole, or took too long over it, so one of its entries may be poison. Sends it in pieces, and those
 * that are refused in smaller ones, until what is at fault stands alone: so one bad end can't keep the others from being written. What
 * is refused alone for its data ends as failed, with an error that is known to be harmless; what is too slow alone is told again
 * later, alone.
 */
export async function settleApart(
  batch: SettlementBatch,
  lane: Lane,
  parts: LaneLoopParts,
): Promise<void> {
  for (const lease of batch.whole) lease.isWhole = false;
  const done = [...batch.whole.flatMap((lease) => lease.attempts), ...batch.done];
  const open = split({ done, rest: batch.rest });
  while (open.length > 0) {
    const piece = open[0] as Ends;
    try {
      await send(piece, lane, parts);
    } catch (cause) {
      if (countEnds(piece) > 1 && (isAboutData(cause) || isStatementFault(cause))) {
        open.splice(0, 1, ...split(piece));
        continue;
      }
      if (countEnds(piece) === 1 && isAboutData(cause)) {
        const harmless = refuse(piece, cause, parts);
        if (harmless) {
          open[0] = harmless;
          continue;
        }
      } else if (countEnds(piece) === 1 && isStatementFault(cause)) {
        delay(piece, cause, lane, parts);
      } else {
        // It is not about these entries, the database went away for example: what is left is sent again later.
        const done = open.flatMap((ends) => ends.done);
        const rest = open.flatMap((ends) => ends.rest);
        parts.settlements.putBack({ whole: [], done, rest }, lane);
        return;
      }
    }
    open.shift();
  }
}

function split({ done, rest }: Ends): Ends[] {
  const size = Math.ceil((done.length + rest.length) / PIECES);
  const pieces: Ends[] = [];
  for (let at = 0; at < done.length; at += size) {
    pieces.push({ done: done.slice(at, at + size), rest: [] });
  }
  for (let at = 0; at < rest.length; at += size) {
    pieces.push({ done: [], rest: rest.slice(at, at + size) });
  }
  return pieces;
}

async function send(ends: Ends, lane: Lane, parts: LaneLoopParts): Promise<void> {
  const { settings, settlements, link, intake, phase } = parts;
  const batch: SettlementBatch = { whole: [], ...ends };
  const request = {
    ...encodeBatch(batch),
    ...lane.scope,
    worker: parts.worker(),
    limit: 0,
    leaseMs: settings.leaseMs,
    mark: null,
  };
  const { answer } = await link.call((patience) => advance(settings.sql, request, patience));
  phase.workCount += 1;
  const left = intake.settled(batch, answer);
  settlements.confirm(countEnds(ends) - countEnds(left));
  if (countEnds(left) > 0) settlements.putOff(left, lane);
  if (answer.has_children_left) parts.children.wake();
}

function delay(ends: Ends, cause: unknown, lane: Lane, parts: LaneLoopParts): void {
  const { settlements, settings } = parts;
  settings.logger.error("job.end_delayed", { ...factsOf(ends), error: cause });
  settlements.setApart(ends, lane);
}

/** Plain words only, so that nothing in it can be refused again. */
const REFUSED_ERROR = {
  name: "SettlementError",
  message: "The database refused what this attempt ended with; see the worker's log",
};

/** What to tell instead of an end that was refused; undefined when even that was. */
function refuse(ends: Ends, cause: unknown, parts: LaneLoopParts): Ends | undefined {
  const { intake, settings, settlements } = parts;
  const attempt = attemptOf(ends);
  if (ends.rest[0]?.detail.error === REFUSED_ERROR) {
    // Nothing more can be done from here: its lease runs out, and the rescuer decides.
    settings.logger.error("job.end_dropped", { ...factsOf(ends), error: cause });
    intake.refuse(attempt);
    settlements.confirm(1);
    return undefined;
  }
  settings.logger.error("job.end_refused", factsOf(ends));
  attempt.resultText = null;
  const detail = { error: REFUSED_ERROR, retryable: false };
  const text = JSON.stringify({
    lease: attempt.lease.id,
    id: attempt.id,
    outcome: "failed",
    ...detail,
  });
  return { done: [], rest: [{ attempt, outcome: "failed", detail, text }] };
}

function attemptOf({ done, rest }: Ends): Attempt {
  return (done[0] ?? rest[0]?.attempt) as Attempt;
}

function factsOf(ends: Ends): Record<string, unknown> {
  const { id, type } = attemptOf(ends);
  return { jobId: id, type, outcome: ends.rest[0]?.outcome ?? "completed" };
}
