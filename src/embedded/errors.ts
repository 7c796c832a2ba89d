import { QueueError } from "../core/errors.ts";

/** Why a local Postgres could not be had. */
export type LocalPostgresErrorCode =
  | "LOCAL_POSTGRES_NOT_FOUND"
  | "LOCAL_POSTGRES_NO_ACCOUNT"
  | "LOCAL_POSTGRES_DATA_UNUSABLE"
  | "LOCAL_POSTGRES_VERSION_MISMATCH"
  | "LOCAL_POSTGRES_START_FAILED"
  | "LOCAL_POSTGRES_STOP_FAILED";

/** A local Postgres could not be found, started or stopped; `hint` says how to mend it. */
export class LocalPostgresError extends QueueError {
  override readonly name = "LocalPostgresError";
  readonly code: LocalPostgresErrorCode;

  constructor(code: LocalPostgresErrorCode, message: string, hint: string, cause?: unknown) {
    super(message, { cause, hint });
    this.code = code;
  }
}
