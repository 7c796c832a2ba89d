import { QueueError } from "../core/errors.ts";

/** Why functions could not be served here. */
export type LocalPlatformErrorCode =
  | "DENO_NOT_FOUND"
  | "FUNCTIONS_PORT_IN_USE"
  | "FUNCTION_DID_NOT_START"
  | "LOCAL_KEYS_UNUSABLE"
  | "NET_NOT_OURS";

/** What Supabase brings could not be had on this machine; `hint` says how to mend it. */
export class LocalPlatformError extends QueueError {
  override readonly name = "LocalPlatformError";
  readonly code: LocalPlatformErrorCode;

  constructor(code: LocalPlatformErrorCode, message: string, hint: string, cause?: unknown) {
    super(message, { cause, hint });
    this.code = code;
  }
}
