import {
  DatabaseCredentialsError,
  DatabaseUnreachableError,
  NotAllowedError,
  QueueSqlError,
  QuotaExceededError,
  SchemaVersionError,
} from "../core/database-errors.ts";
import {
  type ErrorDetails,
  hasCode,
  IdempotencyConflictError,
  InvalidDependencyError,
  InvalidOptionError,
  InvalidPayloadError,
  isQueueError,
  type QueueError,
  UnknownQueueError,
} from "../core/errors.ts";
import { SCHEMA_VERSION } from "./schema-version.ts";

/** The option at fault, by the SQLSTATE that the queue's own functions raise. */
const OPTION_BY_SQLSTATE: Readonly<Record<string, string>> = {
  MR001: "type",
  MR002: "priority",
  MR005: "at",
  MR006: "maxRetries",
  MR009: "idempotencyKey",
  MR010: "options",
  MR011: "queue",
  MR012: "tenantId",
  MR013: "worker",
  MR015: "jobs",
};

/** What drivers and runtimes call a connection that could not be made, or broke. */
const CONNECTION_CODES: ReadonlySet<string> = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "CONNECT_TIMEOUT",
  "EAI_AGAIN",
  "ECONNABORTED",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTDOWN",
  "EHOSTUNREACH",
  "ENETDOWN",
  "ENETUNREACH",
  "ENOENT",
  "ENOTFOUND",
  "EPIPE",
  "ETIMEDOUT",
]);

/**
 * A driver's error as one of ours. What is not known to come from the database is returned as it is, so that errors of callers'
 * own code inside a transaction stay untouched.
 */
export function translateError(error: unknown, host: string): unknown {
  if (isQueueError(error) || typeof error !== "object" || error === null) return error;
  const { code, message = "" } = error as { code?: unknown; message?: string };
  if (typeof code === "string" && isSqlstate(error, code)) {
    return fromSqlstate(code, error as DatabaseMessage, host);
  }
  if (typeof code === "string" && (CONNECTION_CODES.has(code) || isTlsCode(code))) {
    return new DatabaseUnreachableError(host, reasonOf(code, message), { cause: error });
  }
  return error;
}

/** Whether a driver's error means that its connection is gone, or about to be closed by the server. */
export function isConnectionGone(error: unknown): boolean {
  if (typeof error !== "object" || error === null) return false;
  const { code } = error as { code?: unknown };
  return isFatal(error) || (typeof code === "string" && CONNECTION_CODES.has(code));
}

/** Whether a connection, though it works, leads to a server that takes no writes: another may lead to the primary. */
export function isConnectionUseless(error: unknown): boolean {
  if (typeof error !== "object" || error === null) return false;
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  if (error instanceof DatabaseUnreachableError) return isConnectionUseless(cause);
  return typeof code === "string" && isReadOnly(code, error as DatabaseMessage);
}

/** The server or a pooler closes the connection with such an error, so it is never about the statement alone. */
function isFatal(error: object): boolean {
  const { severity, severity_local: local } = error as Record<string, unknown>;
  return [severity, local].some((told) => told === "FATAL" || told === "PANIC");
}

/** Whether trying again later may help although nothing else changes. */
export function isTransient(error: unknown): boolean {
  if (hasCode(error, "DATABASE_UNREACHABLE", "DATABASE_TIMEOUT")) return true;
  return /^(40|53|55|57|58)/.test(sqlstateOf(error));
}

/** Statement timeout, lock timeout, serialization failure, deadlock. */
const STATEMENT_FAULTS: ReadonlySet<string> = new Set(["57014", "55P03", "40001", "40P01"]);

/** Whether the database ended this one statement, for its length or for what others did meanwhile: others may well work. */
export function isStatementFault(error: unknown): boolean {
  return STATEMENT_FAULTS.has(sqlstateOf(error));
}

/** Whether a value that was sent is at fault, so that the same call without it would work. */
export function isAboutData(error: unknown): boolean {
  if (hasCode(error, "INVALID_PAYLOAD", "INVALID_OPTION")) return true;
  if (hasCode(error, "SQL_ERROR") && (error as QueueSqlError).isFatal) return false;
  return /^(21|22|23|54|P0|XX)/.test(sqlstateOf(error));
}

/** Of what the database said; empty for everything else. */
export function sqlstateOf(error: unknown): string {
  return hasCode(error, "SQL_ERROR") ? (error as QueueSqlError).sqlstate : "";
}

interface DatabaseMessage {
  readonly message: string;
  readonly severity?: string;
  readonly severity_local?: string;
  readonly routine?: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** A pooler's own errors have neither of what a server's have: of them postgres.js knows the severity by its other name alone. */
function isSqlstate(error: object, code: string): boolean {
  if (!/^[0-9A-Z]{5}$/.test(code)) return false;
  return "severity" in error || "severity_local" in error || "routine" in error;
}

function isTlsCode(code: string): boolean {
  return code.startsWith("ERR_SSL") || code.startsWith("ERR_TLS") || code.includes("CERT");
}

/** The queue was restored under another role, or its owner changed. */
const ADOPT = "If the queue has another owner now: as that role, select queue.adopt().";

function fromSqlstate(sqlstate: string, raised: DatabaseMessage, host: string): QueueError {
  const cause = slim(sqlstate, raised);
  const details: ErrorDetails = { cause, detail: raised.detail, hint: raised.hint };
  if (sqlstate.startsWith("MR")) return fromQueue(sqlstate, raised, details);
  switch (sqlstate) {
    case "28000":
    case "28P01":
    case "3D000":
      return new DatabaseCredentialsError(host, raised.message, { cause });
    case "42501":
      return new NotAllowedError(raised.message, {
        ...details,
        hint: raised.hint ?? (raised.routine === "ExecWithCheckOptions" ? ADOPT : undefined),
      });
    case "3F000":
    case "42883":
    case "42P01":
      // A schema, function or table is missing: either nothing is installed, or another version is.
      return raised.message.includes("queue") || raised.message.includes("public.")
        ? new SchemaVersionError(SCHEMA_VERSION, null, { cause, detail: raised.message })
        : new QueueSqlError(sqlstate, raised.message, details);
    case "XX000":
      if (/tenant or user not found/i.test(raised.message)) {
        return new DatabaseCredentialsError(host, raised.message, { cause });
      }
  }
  return isConnectionLoss(sqlstate, raised)
    ? new DatabaseUnreachableError(host, raised.message, { cause })
    : new QueueSqlError(sqlstate, raised.message, details, isFatal(raised));
}

/** The driver's error without what it quotes: its context and parameters may hold a payload, and causes end up in logs. */
function slim(sqlstate: string, { message, severity, routine }: DatabaseMessage): Error {
  const error = new Error(message);
  error.name = "PostgresError";
  return Object.assign(error, { code: sqlstate, severity, routine });
}

function fromQueue(sqlstate: string, raised: DatabaseMessage, details: ErrorDetails): QueueError {
  switch (sqlstate) {
    case "MR003":
    case "MR004":
      return new InvalidPayloadError("", raised.message, details);
    case "MR007":
    case "MR008":
      return new InvalidDependencyError(raised.message, details);
    case "MR014":
      return new UnknownQueueError(raised.message, details);
    case "MR016":
      return new QuotaExceededError(raised.message, details);
    case "MR017":
      return new IdempotencyConflictError(raised.message, raised.detail ?? "", {
        cause: details.cause,
        hint: 'Use another key for another job, or onKeyConflict: "return" to get the first job whatever its payload.',
      });
  }
  const option = OPTION_BY_SQLSTATE[sqlstate];
  return option
    ? new InvalidOptionError(option, raised.message, details)
    : new QueueSqlError(sqlstate, raised.message, details);
}

/**
 * The connection, not the statement, is at fault: shut down, recovering, full, or turned into a standby; or a pooler says so in its own
 * words. What the server refuses a session for (a wrong setting in the address, class 22 and 42) does not pass by waiting.
 */
function isConnectionLoss(sqlstate: string, raised: DatabaseMessage): boolean {
  return (
    sqlstate.startsWith("08") ||
    ["53300", "57P01", "57P02", "57P03", "57P05"].includes(sqlstate) ||
    isReadOnly(sqlstate, raised) ||
    (isFatal(raised) && !/^(22|42)/.test(sqlstate))
  );
}

/** A standby, of which unlogged tables can't even be looked at, and which has no place in a log that it writes. */
function isReadOnly(sqlstate: string, { message, routine = "" }: DatabaseMessage): boolean {
  if (sqlstate === "25006") return true;
  if (sqlstate === "55000") {
    return /^pg_(current_wal|walfile)/.test(routine) || message === "recovery is in progress";
  }
  return (
    sqlstate === "0A000" && (routine === "get_relation_info" || / during recovery$/.test(message))
  );
}

function reasonOf(code: string, message: string): string {
  switch (code) {
    case "ECONNREFUSED":
      return "nothing answers there (connection refused)";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "the host name is not known";
    case "ENOENT":
      return "the socket does not exist";
    case "CONNECT_TIMEOUT":
    case "ETIMEDOUT":
      return "no answer in time";
    case "CONNECTION_ENDED":
      return "the connection was closed by this program";
    case "CONNECTION_CLOSED":
    case "CONNECTION_DESTROYED":
    case "ECONNRESET":
    case "EPIPE":
      return "the connection broke";
  }
  return message === "" ? code : message;
}
