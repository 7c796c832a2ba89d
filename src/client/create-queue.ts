import { isoTime, optionalText, requiredText, wholeNumber } from "../core/check-options.ts";
import { type Clock, systemClock } from "../core/clock.ts";
import { UnknownJobError } from "../core/errors.ts";
import { toQueryable, toSql } from "../db/detect.ts";
import {
  cancelJob,
  type DeadLetterFilter,
  type Explanation,
  explainJob,
  type JobFilter,
  type JobRow,
  listJobs,
  pauseQueue,
  purgeJobs,
  type QueueHealth,
  type QueueStats,
  queueHealth,
  queueStats,
  type RedriveFilter,
  type RedrivenJob,
  readHistory,
  readJob,
  redriveJobs,
  resumeQueue,
  retryJob,
  type StatusChange,
} from "../db/operator-functions.ts";
import { awaitResult, type ResultOptions } from "./await-result.ts";
import { type CallOptions, callerInTransaction, callerOf } from "./call-options.ts";
import { idOf, idsOf, type JobReference } from "./enqueue-options.ts";
import { createEnqueuer, type Enqueuer, type ToHandle } from "./enqueuer.ts";
import { SharedCommits } from "./shared-commits.ts";

export interface QueueOptions {
  /** `connect(url)` of this library, a postgres.js client, or a node-postgres pool. Who made it closes it. */
  readonly sql: unknown;
  readonly clock?: Clock;
}

export interface ActOptions extends CallOptions {
  /** Kept in the history, up to 8 KiB of it. */
  readonly reason?: string;
}

export interface RetryOptions extends ActOptions {
  /** Jobs that were cancelled because this one failed or was cancelled wait for it again, and so on. @default false */
  readonly withDescendants?: boolean;
}

/**
 * The producer's and the operator's side of the queue. Holds no connection of its own. Each call ends within `timeoutMs` (15 s by
 * default), and throws DatabaseTimeoutError then.
 */
export interface Queue extends Enqueuer {
  /**
   * The same, within the caller's open transaction: jobs exist if and only if it commits. Takes a transaction of postgres.js,
   * node-postgres, Drizzle, Kysely or Prisma. Throws InvalidOptionError for anything else, a pool for example.
   */
  with(tx: unknown): Enqueuer;
  /** Waits for the result of a job that was enqueued elsewhere. */
  result(job: JobReference, options?: ResultOptions): Promise<unknown>;
  /** A job with its status. Throws UnknownJobError. */
  get(job: JobReference, call?: CallOptions): Promise<JobRow>;
  /** Jobs that match, newest first. */
  list(filter?: JobFilter, call?: CallOptions): Promise<JobRow[]>;
  /** Every change of a job's status, oldest first. */
  history(job: JobReference, call?: CallOptions): Promise<StatusChange[]>;
  /** Why a job is not running. */
  explain(job: JobReference, call?: CallOptions): Promise<Explanation>;
  /**
   * Cancels a waiting job at once; asks a running one's handler to stop, and then answers "processing". The status of a finished
   * job stays as it is. Throws UnknownJobError.
   */
  cancel(job: JobReference, options?: ActOptions): Promise<string>;
  /**
   * Runs a scheduled job now, a failed or cancelled one again. Answers the status that it has then; `pending` or `processing` also for a
   * job that was so already. Null when it can't be run: it waits for others, completed, or is unknown.
   */
  retry(job: JobReference, options?: RetryOptions): Promise<string | null>;
  /** Makes dead letters pending again. */
  redrive(filter: RedriveFilter, call?: CallOptions): Promise<RedrivenJob[]>;
  /** Deletes dead letters; answers how many. */
  purge(filter: DeadLetterFilter, call?: CallOptions): Promise<number>;
  /** Stops claims from a queue. False when it was paused already. Throws UnknownQueueError. */
  pause(queue: string, options?: ActOptions): Promise<boolean>;
  /** Lets claims go on. False when the queue was not paused. Throws UnknownQueueError. */
  resume(queue: string, call?: CallOptions): Promise<boolean>;
  stats(queue?: string, call?: CallOptions): Promise<QueueStats[]>;
  health(call?: CallOptions): Promise<QueueHealth>;
}

/** Opens the queue of a database for producers and operators. */
export function createQueue({ sql: handle, clock = systemClock }: QueueOptions): Queue {
  const sql = toSql(handle);
  const toHandle: ToHandle = ({ id, outcome }) => ({
    id,
    outcome,
    result: (options = {}) => awaitResult(sql, id, options, clock),
  });
  const caller = callerOf(sql, clock);
  const shared = new SharedCommits(sql, clock);
  return {
    ...createEnqueuer(caller, toHandle, (job, call) => shared.enqueue(job, call)),
    with: (tx) => createEnqueuer(callerInTransaction(toQueryable(tx)), toHandle),
    result: async (job, options = {}) => awaitResult(sql, idOf(job), options, clock),
    async get(job, call) {
      const id = idOf(job);
      return known(id, await caller(call, (db) => readJob(db, id)));
    },
    list: async (filter = {}, call) => caller(call, (db) => listJobs(db, checkFilter(filter))),
    history: async (job, call) => caller(call, (db) => readHistory(db, idOf(job))),
    explain: async (job, call) => caller(call, (db) => explainJob(db, idOf(job))),
    async cancel(job, { reason, ...call } = {}) {
      const id = idOf(job);
      return known(
        id,
        await caller(call, (db) => cancelJob(db, id, optionalText("reason", reason))),
      );
    },
    retry: async (job, { reason, withDescendants, ...call } = {}) =>
      caller(call, (db) =>
        retryJob(db, idOf(job), optionalText("reason", reason), withDescendants),
      ),
    redrive: async (filter, call) => caller(call, (db) => redriveJobs(db, checkDeadFilter(filter))),
    purge: async (filter, call) => caller(call, (db) => purgeJobs(db, checkDeadFilter(filter))),
    pause: async (queue, { reason, ...call } = {}) =>
      caller(call, (db) =>
        pauseQueue(db, requiredText("queue", queue), optionalText("reason", reason)),
      ),
    resume: async (queue, call) =>
      caller(call, (db) => resumeQueue(db, requiredText("queue", queue))),
    stats: async (queue, call) =>
      caller(call, (db) => queueStats(db, optionalText("queue", queue))),
    health: async (call) => caller(call, (db) => queueHealth(db)),
  };
}

/** The most rows of one answer. */
const MOST_ROWS = 100_000;

function checkFilter(filter: JobFilter): JobFilter {
  if (filter.beforeId !== undefined) idOf(filter.beforeId, "beforeId");
  if (filter.limit !== undefined) wholeNumber("limit", filter.limit, 0, MOST_ROWS);
  for (const name of ["status", "type", "queue", "tenantId"] as const) {
    optionalText(name, filter[name]);
  }
  return filter;
}

function checkDeadFilter<F extends DeadLetterFilter>(filter: F): F {
  const { ids, failedBefore, limit } = filter;
  if (limit !== undefined) wholeNumber("limit", limit, 0, MOST_ROWS);
  if (failedBefore !== undefined && failedBefore !== null) isoTime("failedBefore", failedBefore);
  for (const name of ["type", "tenantId", "fingerprint", "reason"] as const) {
    optionalText(name, filter[name]);
  }
  return ids ? { ...filter, ids: idsOf("ids", ids) } : filter;
}

function known<T>(id: string, answer: T | null): T {
  if (answer === null) throw new UnknownJobError(id);
  return answer;
}
