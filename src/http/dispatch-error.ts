import { type ErrorDetails, QueueError } from "../core/errors.ts";

export type DispatchFault =
  | "FUNCTION_UNAUTHORIZED"
  | "FUNCTION_NOT_FOUND"
  | "FUNCTION_FAILED"
  | "FUNCTION_REFUSED"
  | "FUNCTION_BUSY"
  | "FUNCTION_TIMEOUT"
  | "FUNCTION_UNREACHABLE"
  | "FUNCTION_ANSWER_INVALID";

/** A job that was sent to a function did not complete there. The message says what to look at. */
export class DispatchError extends QueueError {
  override readonly name = "DispatchError";
  readonly code: DispatchFault;
  /** The HTTP status of the answer; null when there was none. */
  readonly status: number | null;

  constructor(code: DispatchFault, status: number | null, message: string, details?: ErrorDetails) {
    super(message, details);
    this.code = code;
    this.status = status;
  }
}
