import { hasCode } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import type { Queryable, Sql } from "../db/sql.ts";
import { isTransient } from "../db/sqlstate.ts";

export interface Lifeline extends Queryable {
  close(): Promise<void>;
}

/**
 * The connection by which a worker keeps its leases: one beyond those that handlers may use up. Where it cannot be had, because the server
 * takes no more connections for example, the shared ones serve.
 */
export function openLifeline(sql: Sql, logger: Logger): Lifeline {
  const own = sql.dedicated?.();
  if (!own) return { query: sql.query, close: () => Promise.resolve() };
  let isTold = false;
  return {
    async query(text, params, options) {
      try {
        return await own.query(text, params, options);
      } catch (error) {
        // Not in time: the next try has a new connection. Of what was refused by the statement itself the others know no more.
        if (options?.signal?.aborted || !isAboutConnection(error)) throw error;
        const answer = await sql.query(text, params, options);
        if (!isTold) logger.warn("worker.lifeline_failed", { error });
        isTold = true;
        return answer;
      }
    },
    close: () => own.close(),
  };
}

/** A new connection may be refused, after a change of the password for example, while those that are there go on. */
function isAboutConnection(error: unknown): boolean {
  return isTransient(error) || hasCode(error, "DATABASE_CREDENTIALS");
}
