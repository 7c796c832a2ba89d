import { wholeNumber } from "../core/check-options.ts";
import { type Clock, systemClock } from "../core/clock.ts";
import { DatabaseTimeoutError } from "../core/database-errors.ts";
import { deadline } from "../core/signals.ts";
import type { Queryable } from "../db/sql.ts";

/** How long a call of the database may take. */
export interface CallOptions {
  /**
   * After so long the call is given up with DatabaseTimeoutError: whether it was done is not known then. In a caller's transaction
   * there is no limit unless one is given. @default 15_000
   */
  readonly timeoutMs?: number;
  /** Gives up with the signal's reason. What was sent may be done all the same. */
  readonly signal?: AbortSignal;
}

const TIMEOUT_MS = 15_000;
const LONGEST_MS = 86_400_000;

export function timeoutOf({ timeoutMs = TIMEOUT_MS }: CallOptions): number {
  return wholeNumber("timeoutMs", timeoutMs, 1, LONGEST_MS);
}

/** Makes calls that end in time. */
export type Caller = <T>(
  options: CallOptions | undefined,
  work: (db: Queryable) => Promise<T>,
) => Promise<T>;

/** Calls of a database. */
export function callerOf(db: Queryable, clock: Clock): Caller {
  return (options = {}, work) => bounded(db, timeoutOf(options), options.signal, clock, work);
}

/** Calls within a caller's transaction, which may have to wait for others as long as the transaction does. */
export function callerInTransaction(db: Queryable): Caller {
  return (options = {}, work) => {
    if (options.timeoutMs === undefined) return work(withSignal(db, options.signal));
    return bounded(db, timeoutOf(options), options.signal, systemClock, work);
  };
}

async function bounded<T>(
  db: Queryable,
  ms: number,
  signal: AbortSignal | undefined,
  clock: Clock,
  work: (db: Queryable) => Promise<T>,
): Promise<T> {
  const patience = deadline(ms, () => new DatabaseTimeoutError(ms), signal, clock);
  try {
    return await work(withSignal(db, patience.signal));
  } finally {
    patience.release();
  }
}

/** The same database, of which nothing is awaited once the signal aborts. */
export function withSignal(db: Queryable, signal: AbortSignal | undefined): Queryable {
  if (!signal) return db;
  return { query: (text, params, options) => db.query(text, params, { ...options, signal }) };
}
