import { type Backoff, backoffDelay } from "../core/backoff.ts";
import { sleep } from "../core/signals.ts";
import type { QueryOptions, Sql, SqlParam, SqlRow } from "./sql.ts";
import { sqlstateOf } from "./sqlstate.ts";

/** Serialization failures and deadlocks: the statement was rolled back, and may do well a moment later. */
const LOST_RACES: ReadonlySet<string> = new Set(["40001", "40P01"]);
const MOST_TRIES = 20;
const WAIT: Backoff = { baseMs: 1, capMs: 50, jitter: 1 };

/**
 * The same database, where a statement that lost a race is sent again. That is safe because each is a transaction of its own, and
 * common where a role or a database has a stricter default isolation than read committed. Transactions are left to their callers.
 */
export function retrying(sql: Sql): Sql {
  const query = async (
    text: string,
    params?: readonly SqlParam[],
    options?: QueryOptions,
  ): Promise<readonly SqlRow[]> => {
    for (let failures = 0; ; failures += 1) {
      try {
        return await sql.query(text, params, options);
      } catch (error) {
        const isLast = failures + 1 === MOST_TRIES || options?.signal?.aborted === true;
        if (isLast || !isLostRace(error)) throw error;
      }
      await sleep(backoffDelay(WAIT, failures, Math.random()), options?.signal);
    }
  };
  return {
    query,
    transaction: (work, options) => sql.transaction(work, options),
    ...(sql.listen && { listen: sql.listen.bind(sql) }),
    ...(sql.dedicated && { dedicated: () => retrying(dedicatedOf(sql)) }),
    close: () => sql.close(),
  };
}

function dedicatedOf(sql: Sql): Sql {
  return sql.dedicated?.() ?? sql;
}

function isLostRace(error: unknown): boolean {
  return LOST_RACES.has(sqlstateOf(error));
}
