export { InvalidPayloadError, LeaseLostError, QueueError } from "../core/errors.ts";
export type { JsonValue } from "../core/json.ts";
export {
  consoleLogger,
  jsonLogger,
  type LogFields,
  type Logger,
  silentLogger,
} from "../core/logger.ts";
export type { StandardSchema } from "../core/standard-schema.ts";
export { Refused, RetryLater } from "./job-failure.ts";
export {
  type JobCall,
  type JobFunctionOptions,
  type JobHandle,
  jobFunction,
} from "./job-function.ts";
export {
  type FailReport,
  type JobReporter,
  ReportError,
  type ReporterTools,
  reporterOf,
} from "./job-reporter.ts";
export { type Problem, problemResponse } from "./problem.ts";
export {
  type Callback,
  type ReceivedJob,
  type ReceiveOptions,
  receiveJob,
  type SenderAccess,
} from "./received-job.ts";
export { RequestRefused } from "./request-refused.ts";
export { retryAfterMs } from "./retry-after.ts";
export { type Environment, EnvironmentError, senderAccessOf } from "./sender-access.ts";
