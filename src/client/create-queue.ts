import { wholeNumber } from "../core/check-options.ts";
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
import { idOf, type JobReference } from "./enqueue-options.ts";
import { createEnqueuer, type Enqueuer, type ToHandle } from "./enqueuer.ts";
import { SharedCommits } from "./shared-commits.ts";

export interface QueueOptions {
  /** `connect(url)` of this library, a postgres.js client, or a node-postgres pool. Who made it closes it. */
  readonly sql: unknown;
  readonly clock?: Clock;
}

/** A reason that is kept in the job's history. */
export interface ActOptions {
  readonly reason?: string;
}

export interface RetryOptions extends ActOptions {
  /** Jobs that were cancelled because this one failed or was cancelled wait for it again, and so on. @default false */
  readonly withDescendants?: boolean;
}

/** The producer's and the operator's side of the queue. Holds no connection of its own. */
export interface Queue extends Enqueuer {
  /**
   * The same, within the caller's open transaction: jobs exist if and only if it commits. Takes a transaction of postgres.js,
   * node-postgres, Drizzle, Kysely or Prisma. Throws InvalidOptionError for anything else, a pool for example.
   */
  with(tx: unknown): Enqueuer;
  /** Waits for the result of a job that was enqueued elsewhere. */
  result(job: JobReference, options?: ResultOptions): Promise<unknown>;
  /** A job with its status. Throws UnknownJobError. */
  get(job: JobReference): Promise<JobRow>;
  /** Jobs that match, newest first. */
  list(filter?: JobFilter): Promise<JobRow[]>;
  /** Every change of a job's status, oldest first. */
  history(job: JobReference): Promise<StatusChange[]>;
  /** Why a job is not running. */
  explain(job: JobReference): Promise<Explanation>;
  /**
   * Cancels a waiting job at once; asks a running one's handler to stop, and then answers "processing". The status of a finished
   * job stays as it is. Throws UnknownJobError.
   */
  cancel(job: JobReference, options?: ActOptions): Promise<string>;
  /** Runs a scheduled job now, a failed or cancelled one again. Null when it can't be: it runs, waits for others, or completed. */
  retry(job: JobReference, options?: RetryOptions): Promise<string | null>;
  /** Makes dead letters pending again. */
  redrive(filter: RedriveFilter): Promise<RedrivenJob[]>;
  /** Deletes dead letters; answers how many. */
  purge(filter: DeadLetterFilter): Promise<number>;
  /** Stops claims from a queue. False when it was paused already. Throws UnknownQueueError. */
  pause(queue: string, options?: ActOptions): Promise<boolean>;
  /** Lets claims go on. False when the queue was not paused. Throws UnknownQueueError. */
  resume(queue: string): Promise<boolean>;
  stats(queue?: string): Promise<QueueStats[]>;
  health(): Promise<QueueHealth>;
}

/** Opens the queue of a database for producers and operators. */
export function createQueue({ sql: handle, clock = systemClock }: QueueOptions): Queue {
  const sql = toSql(handle);
  const toHandle: ToHandle = ({ id, outcome }) => ({
    id,
    outcome,
    result: (options = {}) => awaitResult(sql, id, options, clock),
  });
  const shared = new SharedCommits(sql);
  return {
    ...createEnqueuer(sql, toHandle, (job) => shared.enqueue(job)),
    with: (tx) => createEnqueuer(toQueryable(tx), toHandle),
    result: async (job, options = {}) => awaitResult(sql, idOf(job), options, clock),
    async get(job) {
      const id = idOf(job);
      return known(id, await readJob(sql, id));
    },
    list: async (filter = {}) => listJobs(sql, checkFilter(filter)),
    history: async (job) => readHistory(sql, idOf(job)),
    explain: async (job) => explainJob(sql, idOf(job)),
    async cancel(job, { reason } = {}) {
      const id = idOf(job);
      return known(id, await cancelJob(sql, id, reason));
    },
    retry: async (job, { reason, withDescendants } = {}) =>
      retryJob(sql, idOf(job), reason, withDescendants),
    redrive: async (filter) => redriveJobs(sql, checkDeadFilter(filter)),
    purge: async (filter) => purgeJobs(sql, checkDeadFilter(filter)),
    pause: (queue, { reason } = {}) => pauseQueue(sql, queue, reason),
    resume: (queue) => resumeQueue(sql, queue),
    stats: (queue) => queueStats(sql, queue),
    health: () => queueHealth(sql),
  };
}

/** The most rows of one answer. */
const MOST_ROWS = 100_000;

function checkFilter(filter: JobFilter): JobFilter {
  if (filter.beforeId !== undefined) idOf(filter.beforeId);
  if (filter.limit !== undefined) wholeNumber("limit", filter.limit, 0, MOST_ROWS);
  return filter;
}

function checkDeadFilter<F extends DeadLetterFilter>(filter: F): F {
  if (filter.limit !== undefined) wholeNumber("limit", filter.limit, 0, MOST_ROWS);
  return filter.ids ? { ...filter, ids: filter.ids.map(idOf) } : filter;
}

function known<T>(id: string, answer: T | null): T {
  if (answer === null) throw new UnknownJobError(id);
  return answer;
}
