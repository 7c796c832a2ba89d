import { callerOf } from "../client/call-options.ts";
import type { Clock } from "../core/clock.ts";
import type { Queryable } from "../db/sql.ts";

/** The same database, where no statement is waited for without end: rejects with DatabaseTimeoutError, or as the signal says. */
export function inTime(db: Queryable, clock: Clock): Queryable {
  const call = callerOf(db, clock);
  return {
    query: (text, params, options) =>
      call(options?.signal ? { signal: options.signal } : {}, (bounded) =>
        bounded.query(text, params, options),
      ),
  };
}
