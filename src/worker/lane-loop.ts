import { isAboutData, isStatementFault } from "../db/sqlstate.ts";
import { type AdvanceAnswer, advance } from "../db/worker-functions.ts";
import type { Attempt } from "./attempt.ts";
import type { ChildSweep } from "./child-sweep.ts";
import type { DatabaseTime } from "./database-time.ts";
import type { Doorbell } from "./doorbell.ts";
import type { Executor } from "./executor.ts";
import type { Intake } from "./intake.ts";
import type { Lane } from "./lane.ts";
import { countEnds } from "./later.ts";
import type { LeaseBook } from "./lease-book.ts";
import { isOutage, type Link } from "./link.ts";
import { Marks } from "./marks.ts";
import type { WorkerSettings } from "./options.ts";
import type { Orphans } from "./orphans.ts";
import { armBell, EMPTY_WAITS_MS, nothingFits, rest } from "./rest.ts";
import { settleApart } from "./settle-apart.ts";
import { encodeBatch } from "./settlement-text.ts";
import { type SettlementBatch, type Settlements, sizeOf } from "./settlements.ts";
import type { Verdicts } from "./verdicts.ts";

export interface LaneLoopParts {
  readonly settings: WorkerSettings;
  readonly worker: () => number;
  readonly link: Link;
  readonly doorbell: Doorbell;
  readonly settlements: Settlements;
  readonly executor: Executor;
  readonly verdicts: Verdicts;
  readonly intake: Intake;
  readonly phase: Phase;
  readonly book: LeaseBook;
  readonly orphans: Orphans;
  readonly children: Pick<ChildSweep, "wake">;
  readonly time: DatabaseTime;
}

/** What all lanes of a worker have to know of each other. */
export interface Phase {
  /** No more claims; what is unfinished is still settled. */
  isStopping: boolean;
  /** No handler runs any more: what has ended is written at once, and then the lanes' loops end. */
  isClosing: boolean;
  /** Grows with every claim and every settlement: a lane that finds nothing can tell whether that is still true. */
  workCount: number;
  /** Called when a lane found nothing. */
  onIdle: () => void;
}

/**
 * Calls of a lane that are under way at a time: while the database works for one, the other's jobs run. Of several busy workers each
 * makes one: then they fill the database's time between them, and more at once cost more for each.
 */
const MOST_CALLS = 2;
/** A claim that brings no more than this, of more that it could take, has emptied a queue of little to do. */
const FEW = 4;
/** Between two claims that look at everything and not just beyond the mark. */
const SWEEP_MS = 200;
/** A claim waits until leases that are about to end were extended. */
const LATE_WAIT_MS = 20;
/** Between tries of a call that fails although the database is there. */
const FAULT_WAIT_MS = 1_000;

/** Settles and claims for one lane, until the worker has come to its end: one call for both, whenever either is due. */
export async function runLane(
  lane: Lane,
  parts: LaneLoopParts,
  signal: AbortSignal,
): Promise<void> {
  const { link, settings, settlements, phase } = parts;
  const { clock, logger } = settings;
  const calls = new Set<Promise<void>>();
  const idle = [...Array(MOST_CALLS).keys()];
  const call = async (number: number): Promise<void> => {
    lane.calls += 1;
    try {
      const stepping = step(lane, number, parts, signal);
      parts.orphans.during(stepping);
      await stepping;
    } catch (error) {
      // Nothing in a step is known to throw. If something does, the lane must go on all the same.
      logger.error("worker.step_failed", { lane: lane.name, error });
      lane.notBefore = clock.now() + FAULT_WAIT_MS;
    } finally {
      lane.calls -= 1;
      idle.push(number);
    }
  };
  const isOver = (): boolean =>
    signal.aborted || (phase.isClosing && settlements.size === 0 && lane.calls === 0);
  while (!isOver()) {
    const now = clock.now();
    if (now >= lane.lookAt) giveBack(lane.takeExcess(now), parts);
    const wait = idle.length === 0 ? Infinity : dueAt(lane, parts) - now;
    if (wait > 0) {
      await lane.wakeup.sleep(Math.min(wait, lane.lookAt - now));
      continue;
    }
    await link.ready(signal);
    if (signal.aborted) break;
    const underWay = call(idle.pop() ?? 0).finally(() => {
      calls.delete(underWay);
      lane.wakeup.wake();
    });
    calls.add(underWay);
  }
  await Promise.all(calls);
}

/** The local time at which this lane has something to do; Infinity when only an event can tell. */
function dueAt(lane: Lane, { settlements, phase }: LaneLoopParts): number {
  let due = Infinity;
  if (!phase.isStopping && lane.canClaim && lane.isHungry) due = lane.nextClaimAt;
  const isSender = settlements.sender === lane || (phase.isClosing && settlements.size > 0);
  // Where claims go out one at a time, ends wait for the one that is under way, and go with the next.
  if (isSender && lane.canClaim) {
    due = phase.isStopping ? settlements.sendableAt : Math.min(due, settlements.dueAt);
  }
  if (!phase.isStopping && lane.wantsRanks > 0) {
    due = Math.min(due, Math.max(lane.sweepAt, lane.nextClaimAt));
  }
  return Math.max(due, lane.notBefore);
}

function giveBack(attempts: readonly Attempt[], { verdicts }: LaneLoopParts): void {
  for (const attempt of attempts) verdicts.giveBack(attempt);
}

async function step(
  lane: Lane,
  call: number,
  parts: LaneLoopParts,
  signal: AbortSignal,
): Promise<void> {
  const { settings, settlements, link, intake, phase } = parts;
  const { clock, leaseMs } = settings;
  // What has ended is told without a look at the queue when that is not due: the answer waits for the disk.
  const isDue = clock.now() >= lane.nextClaimAt;
  const isLate = isDue && parts.book.isLate(clock.now());
  if (isLate) lane.nextClaimAt = clock.now() + LATE_WAIT_MS;
  const mayClaim = isDue && !isLate && !phase.isStopping && lane.canClaim;
  const scope = mayClaim ? lane.scopeNow : null;
  const batch = settlements.take(phase.isStopping);
  const room = scope && !batch.isAlone ? lane.claimLimit : 0;
  // No room, and less urgent jobs in it: then what is more urgent is looked for, and nothing else.
  const isFull = room === 0 && scope !== null && !batch.isAlone;
  const ranks = isFull && clock.now() >= lane.sweepAt ? lane.wantsRanks : 0;
  const limit = ranks > 0 ? lane.urgentLimit : room;
  if (mayClaim && !scope) nothingFits(lane, parts);
  if (limit === 0 && sizeOf(batch) === 0) return;
  let isTold = false;
  lane.claiming += limit;
  try {
    const sentAt = clock.now();
    const isSweep = lane.marks.hasPlace && sentAt >= lane.sweepAt;
    const place = isSweep ? lane.marks.sweeping : lane.marks.get(call);
    const mark = ranks > 0 ? Marks.urgent(ranks) : place;
    if (isSweep || place === null || ranks > 0) lane.sweepAt = sentAt + SWEEP_MS;
    const workCount = phase.workCount;
    const request = {
      ...encodeBatch(batch),
      ...(scope ?? lane.scope),
      worker: parts.worker(),
      limit,
      leaseMs,
      mark,
    };
    const { answer, size } = await link.claim((patience) =>
      advance(settings.sql, request, patience),
    );
    isTold = true;
    parts.time.observe(sentAt, answer.now);
    lane.claiming -= limit;
    if (sizeOf(batch) > 0) phase.workCount += 1;
    const left = intake.settled(batch, answer);
    settlements.confirm(sizeOf(batch) - countEnds(left));
    if (countEnds(left) > 0) settlements.putOff(left, lane);
    if (answer.has_children_left) parts.children.wake();
    if (limit === 0) return;
    if (ranks > 0) {
      takeUrgent(lane, answer, size, sentAt + leaseMs, parts);
    } else if (answer.jobs.length > 0) {
      // From the moment of sending: the lease began some time after that.
      lane.marks.set(call, answer.mark);
      take(lane, answer, size, limit, sentAt + leaseMs, parts);
      const isFew = answer.jobs.length <= FEW && answer.jobs.length < limit && !answer.is_cut;
      if (isFew && !phase.isStopping) await armBell(parts);
    } else {
      lane.emptyAtWork = workCount;
      await rest(lane, answer.next_due_in_ms, parts);
    }
  } catch (error) {
    if (isTold) throw error;
    lane.claiming -= limit;
    if (limit > 0) {
      lane.claimFailed(limit);
      parts.orphans.gaveUp();
    }
    await failed(lane, batch, error, parts, signal);
  } finally {
    if (batch.isAlone) settlements.aloneEnded();
  }
}

/** Takes over what a claim brought. */
function take(
  lane: Lane,
  answer: AdvanceAnswer,
  size: number,
  limit: number,
  deadline: number,
  parts: LaneLoopParts,
): void {
  const { settings, intake, executor, doorbell, phase } = parts;
  const count = answer.jobs.length;
  phase.workCount += 1;
  doorbell.disarm();
  lane.emptyClaims = 0;
  const isFull = count === limit || answer.is_cut;
  // Whoever counts what each tenant had can't do so in two claims at a time; and two small ones would only come in the wrong order.
  lane.isFlowing = isFull && count > FEW && answer.is_alone && lane.scope.perTenant === null;
  lane.nextClaimAt = isFull ? 0 : settings.clock.now() + EMPTY_WAITS_MS[0];
  intake.claimed(lane, answer, deadline, size);
  lane.claimed(count, size);
  if (phase.isStopping) giveBack(lane.takeAll(), parts);
  executor.fill(lane);
}

/** Takes over what is more urgent than some of what lies in the buffer. Where the next common claim goes on stays as it was. */
function takeUrgent(
  lane: Lane,
  answer: AdvanceAnswer,
  size: number,
  deadline: number,
  parts: LaneLoopParts,
): void {
  const { executor, intake, phase } = parts;
  if (answer.jobs.length === 0) return;
  phase.workCount += 1;
  intake.claimed(lane, answer, deadline, size);
  if (phase.isStopping) {
    giveBack(lane.takeAll(), parts);
    return;
  }
  // Slots may have come free meanwhile, and the buffer may have run empty: then nobody else begins these.
  executor.fill(lane);
  giveBack(lane.takeExcess(parts.settings.clock.now()), parts);
}

async function failed(
  lane: Lane,
  batch: SettlementBatch,
  error: unknown,
  parts: LaneLoopParts,
  signal: AbortSignal,
): Promise<void> {
  const { settlements, settings } = parts;
  if (signal.aborted || isOutage(error)) {
    settlements.putBack(batch, lane);
    return;
  }
  if (batch.whole.length > 0 && isAboutData(error)) {
    // Something of a lease was settled by others meanwhile. Job by job it can be told which.
    settlements.putBack(batch, lane);
    return;
  }
  settings.logger.error("worker.advance_failed", { lane: lane.name, error });
  if (isStatementFault(error) && batch.isAlone) {
    settlements.setApart(batch, lane);
    return;
  }
  lane.notBefore = settings.clock.now() + FAULT_WAIT_MS;
  if (isAboutData(error) || isStatementFault(error)) await settleApart(batch, lane, parts);
  else settlements.putBack(batch, lane);
}
