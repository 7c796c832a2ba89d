import { hasCode, isQueueError, type QueueError } from "../core/errors.ts";
import { PostgresTooOldError } from "../db/inspect-server.ts";
import { LocalPostgresError } from "../embedded/errors.ts";
import { CliError } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";

const DATABASE_FAULTS = [LocalPostgresError, PostgresTooOldError];

/** Any failure in the words of the command line: what, why, and how to mend it. */
export function explainError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  if (isQueueError(error)) return fromQueueError(error);
  return new CliError({
    code: "UNEXPECTED",
    what: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
    why: "This is not supposed to happen",
    fix: "Set MILLRACE_DEBUG=1 to see where it comes from, and report it",
    cause: error,
  });
}

function fromQueueError(error: QueueError): CliError {
  return new CliError({
    code: error.code,
    what: error.message,
    why: error.detail,
    fix: error.hint ?? ownFix(error),
    exitCode: exitCodeOf(error),
    cause: error,
  });
}

function exitCodeOf(error: QueueError): number {
  if (DATABASE_FAULTS.some((fault) => error instanceof fault)) return EXIT.database;
  if (hasCode(error, "DATABASE_UNREACHABLE", "DATABASE_CREDENTIALS")) return EXIT.database;
  if (hasCode(error, "SCHEMA_VERSION")) return EXIT.schema;
  if (hasCode(error, "INVALID_OPTION", "INVALID_PAYLOAD")) return EXIT.usage;
  return EXIT.failure;
}

function ownFix(error: QueueError): string | undefined {
  if (hasCode(error, "NOT_ALLOWED")) {
    return "Connect as the owner of the queue, or grant this role what it needs; `millrace doctor` tells what is missing.";
  }
  return undefined;
}
