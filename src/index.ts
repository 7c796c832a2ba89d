export type { ResultOptions } from "./client/await-result.ts";
export type { CallOptions } from "./client/call-options.ts";
export {
  type ActOptions,
  createQueue,
  type Queue,
  type QueueOptions,
  type RetryOptions,
} from "./client/create-queue.ts";
export type { EnqueueOptions, JobReference } from "./client/enqueue-options.ts";
export type { EnqueueCallOptions, EnqueuedJob, Enqueuer } from "./client/enqueuer.ts";
export {
  type Flow,
  FlowClosedError,
  type FlowJob,
  FlowNotEnqueuedError,
  type FlowOptions,
} from "./client/flow.ts";
export { type Backoff, backoffDelay } from "./core/backoff.ts";
export { type Clock, systemClock } from "./core/clock.ts";
export {
  DatabaseCredentialsError,
  DatabaseTimeoutError,
  DatabaseUnreachableError,
  ListenUnavailableError,
  NotAllowedError,
  QueueSqlError,
  QuotaExceededError,
  SchemaVersionError,
} from "./core/database-errors.ts";
export {
  type BackoffOptions,
  defineJob,
  type Job,
  type JobOptions,
  PRIORITIES,
  type Priority,
} from "./core/define-job.ts";
export type { Duration } from "./core/durations.ts";
export {
  AlreadyCommittedError,
  IdempotencyConflictError,
  InvalidDependencyError,
  InvalidOptionError,
  InvalidPayloadError,
  InvalidResultError,
  JobCancelledError,
  type JobErrorJson,
  JobFailedError,
  JobTimeoutError,
  LeaseLostError,
  NoHandlerError,
  QueueError,
  ResultTimeoutError,
  ShutdownError,
  UnknownJobError,
  UnknownQueueError,
  WorkerStateError,
} from "./core/errors.ts";
export type {
  AttemptNumber,
  BatchContext,
  BatchItem,
  Claim,
  HandlerContext,
  HandlerTransaction,
  Middleware,
  ParentResult,
} from "./core/handler.ts";
export {
  type BatchImplementation,
  type BatchOptions,
  type Implementation,
  implement,
  implementBatch,
  type Returned,
  type SingleImplementation,
} from "./core/implement.ts";
export type { JsonValue } from "./core/json.ts";
export {
  consoleLogger,
  jsonLogger,
  type LogFields,
  type Logger,
  type LoggerOptions,
  type LogLevel,
  silentLogger,
} from "./core/logger.ts";
export { discard, type FailOptions, fail, Outcome, snooze } from "./core/outcomes.ts";
export { type StandardSchema, unchecked } from "./core/standard-schema.ts";
export type {
  DeadLetterFilter,
  Explanation,
  JobFilter,
  JobRow,
  QueueHealth,
  QueueStats,
  RedriveFilter,
  RedrivenJob,
  StatusChange,
} from "./db/operator-functions.ts";
export type { Queryable, QueryOptions, Sql, SqlParam, SqlRow, SqlTransaction } from "./db/sql.ts";
export * from "./worker/index.ts";
