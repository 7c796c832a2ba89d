import { type ErrorDetails, QueueError } from "./errors.ts";

/** The database cannot be reached, or went away. Waiting and trying again may help. */
export class DatabaseUnreachableError extends QueueError {
  override readonly name = "DatabaseUnreachableError";
  readonly code = "DATABASE_UNREACHABLE";
  /** Host and port, never the password. */
  readonly host: string;

  constructor(host: string, reason: string, details: ErrorDetails = {}) {
    super(`Cannot reach the database at ${host}: ${reason}`, {
      hint: "Check that Postgres runs there and that the address is right.",
      ...details,
    });
    this.host = host;
  }
}

/**
 * The database did not answer in time, or not as it should: whether what was asked is done is not known. To repeat it is safe for a job
 * with an idempotency key, which is made once however often it is enqueued, and for everything that only reads.
 */
export class DatabaseTimeoutError extends QueueError {
  override readonly name = "DatabaseTimeoutError";
  readonly code = "DATABASE_TIMEOUT";
  /** How long the answer was awaited; null when it came, but did not tell. */
  readonly timeoutMs: number | null;

  constructor(timeoutMs: number | null, reason?: string, details: ErrorDetails = {}) {
    super(
      `${reason ?? `The database did not answer within ${timeoutMs} ms`}; whether it was done is not known`,
      {
        hint: "Enqueue with an idempotencyKey: then the same call can be repeated, and makes one job.",
        ...details,
      },
    );
    this.timeoutMs = timeoutMs;
  }
}

/** The database refuses this user, password or database name. Trying again does not help. */
export class DatabaseCredentialsError extends QueueError {
  override readonly name = "DatabaseCredentialsError";
  readonly code = "DATABASE_CREDENTIALS";
  readonly host: string;

  constructor(host: string, reason: string, details: ErrorDetails = {}) {
    super(`The database at ${host} refuses to let us in: ${reason}`, {
      hint: "Check user, password and database name in the connection string.",
      ...details,
    });
    this.host = host;
  }
}

/** The role may not do this. */
export class NotAllowedError extends QueueError {
  override readonly name = "NotAllowedError";
  readonly code = "NOT_ALLOWED";
}

/** The end users of this tenant have too many open jobs, or enqueued too many within a minute; the hint says when to try again. */
export class QuotaExceededError extends QueueError {
  override readonly name = "QuotaExceededError";
  readonly code = "QUOTA_EXCEEDED";
}

/** This library and the schema in the database don't fit each other. */
export class SchemaVersionError extends QueueError {
  override readonly name = "SchemaVersionError";
  readonly code = "SCHEMA_VERSION";
  readonly expected: number;
  /** The version in the database; null when the queue is not installed there. */
  readonly found: number | null;

  constructor(expected: number, found: number | null, details: ErrorDetails = {}) {
    super(schemaMessage(expected, found), {
      hint:
        found !== null && found > expected
          ? "Update the millrace package."
          : "Run `millrace migrate up`, or apply the migrations with the Supabase CLI.",
      ...details,
    });
    this.expected = expected;
    this.found = found;
  }
}

/** LISTEN cannot be had on this connection; a transaction-mode pooler swallows it. Polling works. */
export class ListenUnavailableError extends QueueError {
  override readonly name = "ListenUnavailableError";
  readonly code = "LISTEN_UNAVAILABLE";
}

/** The database refused a statement for a reason that has no error class of its own. */
export class QueueSqlError extends QueueError {
  override readonly name = "QueueSqlError";
  readonly code = "SQL_ERROR";
  readonly sqlstate: string;
  /** The server closed the connection with it, so it was not about the statement alone. */
  readonly isFatal: boolean;

  constructor(sqlstate: string, message: string, details: ErrorDetails = {}, isFatal = false) {
    super(message, details);
    this.sqlstate = sqlstate;
    this.isFatal = isFatal;
  }
}

function schemaMessage(expected: number, found: number | null): string {
  if (found === null) return "The queue is not installed in this database";
  const relation = found > expected ? "newer" : "older";
  return `The queue's schema in this database is ${relation} (version ${found}) than this library needs (version ${expected})`;
}
