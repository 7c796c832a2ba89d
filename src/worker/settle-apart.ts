import { type SettledOutcome, type SettlementDetail, settleOne } from "../db/attempt-functions.ts";
import { isAboutData } from "../db/sqlstate.ts";
import type { Attempt } from "./attempt.ts";
import type { Lane } from "./lane.ts";
import type { LaneLoopParts } from "./lane-loop.ts";
import { type End, type SettlementBatch, sizeOf } from "./settlements.ts";

/**
 * The database refused a batch as a whole, so one of its entries is poison. Sends each alone; what is refused alone ends as failed,
 * with an error that is known to be harmless. So one bad end can't keep the others from being written.
 */
export async function settleApart(
  batch: SettlementBatch,
  lane: Lane,
  parts: LaneLoopParts,
): Promise<void> {
  const { settlements } = parts;
  const entries: End[] = [...batch.done.map(asEnd), ...batch.rest];
  let at = 0;
  try {
    for (; at < entries.length; at += 1) await settleAlone(entries[at] as End, parts);
    settlements.confirm(sizeOf(batch));
  } catch {
    // It is not about this entry, the database went away for example: what is left is sent again later.
    const left = new Set(entries.slice(at).map((entry) => entry.attempt));
    settlements.putBack(
      {
        whole: [],
        done: batch.done.filter((attempt) => left.has(attempt)),
        rest: batch.rest.filter((entry) => left.has(entry.attempt)),
      },
      lane,
    );
    settlements.confirm(at);
  }
}

function asEnd(attempt: Attempt): End {
  return { attempt, outcome: "completed", detail: { elapsed_ms: Math.round(attempt.elapsedMs) } };
}

async function settleAlone(entry: End, parts: LaneLoopParts): Promise<void> {
  const { intake, settings } = parts;
  const { attempt, outcome, detail } = entry;
  try {
    const status = await send(attempt, outcome, detail, parts);
    if (status === null) intake.refuse(attempt);
    else intake.accept(entry, status);
  } catch (cause) {
    if (!isAboutData(cause)) throw cause;
    settings.logger.error("job.end_refused", { jobId: attempt.id, type: attempt.type, outcome });
    await settleAsRefused(attempt, parts);
  }
}

/** Plain words only, so that nothing in it can be refused again. */
const REFUSED_ERROR = {
  name: "SettlementError",
  message: "The database refused what this attempt ended with; see the worker's log",
};

async function settleAsRefused(attempt: Attempt, parts: LaneLoopParts): Promise<void> {
  const { intake, settings } = parts;
  const detail: SettlementDetail = { error: REFUSED_ERROR, retryable: false };
  attempt.resultText = null;
  try {
    const status = await send(attempt, "failed", detail, parts);
    if (status === null) intake.refuse(attempt);
    else intake.accept({ attempt, outcome: "failed", detail }, status);
  } catch (cause) {
    if (!isAboutData(cause)) throw cause;
    // Nothing more can be done from here: its lease runs out, and the rescuer decides.
    settings.logger.error("job.end_dropped", {
      jobId: attempt.id,
      type: attempt.type,
      error: cause,
    });
    intake.refuse(attempt);
  }
}

function send(
  attempt: Attempt,
  outcome: SettledOutcome,
  detail: SettlementDetail,
  { link, settings }: LaneLoopParts,
): Promise<string | null> {
  const { id, lease, resultText } = attempt;
  return link.call((signal) =>
    settleOne(settings.sql, { lease: lease.id, id, outcome, detail, result: resultText }, signal),
  );
}
