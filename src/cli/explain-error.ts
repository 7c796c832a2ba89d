import {
  DatabaseCredentialsError,
  DatabaseUnreachableError,
  NotAllowedError,
  SchemaVersionError,
} from "../core/database-errors.ts";
import { InvalidOptionError, InvalidPayloadError, QueueError } from "../core/errors.ts";
import { PostgresTooOldError } from "../db/inspect-server.ts";
import { LocalPostgresError } from "../embedded/errors.ts";
import { CliError } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";

const DATABASE_FAULTS = [
  DatabaseUnreachableError,
  DatabaseCredentialsError,
  LocalPostgresError,
  PostgresTooOldError,
];

/** Any failure in the words of the command line: what, why, and how to mend it. */
export function explainError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  if (error instanceof QueueError) return fromQueueError(error);
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
  if (error instanceof SchemaVersionError) return EXIT.schema;
  if (error instanceof InvalidOptionError || error instanceof InvalidPayloadError) {
    return EXIT.usage;
  }
  return EXIT.failure;
}

function ownFix(error: QueueError): string | undefined {
  if (error instanceof NotAllowedError) {
    return "Connect as the owner of the queue, or grant this role what it needs; `millrace doctor` tells what is missing.";
  }
  return undefined;
}
