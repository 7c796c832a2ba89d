import { setTimeout as delay } from "node:timers/promises";
import type { TestSql } from "./connect.ts";
import { POOLER_CHOICE } from "./server-environment.ts";
import { noteWait } from "./waits.ts";

/**
 * Calls `look` again and again until it neither throws nor answers false, null or undefined, and
 * returns that answer. After the deadline it throws what `look` threw last.
 */
export async function eventually<T>(
  look: () => T | Promise<T>,
  { timeoutMs = 10_000, intervalMs = 20 }: { timeoutMs?: number; intervalMs?: number } = {},
): Promise<NonNullable<T>> {
  const deadline = Date.now() + timeoutMs;
  const what = look.toString().slice(0, 200);
  const done = noteWait(what);
  try {
    for (;;) {
      let failure: unknown;
      try {
        const answer = await look();
        if (answer !== undefined && answer !== null && answer !== false) return answer;
        failure = new Error(`the answer stayed ${String(answer)}`);
      } catch (error) {
        failure = error;
      }
      if (Date.now() >= deadline) {
        throw new Error(`not within ${timeoutMs} ms: ${what}`, { cause: failure });
      }
      await delay(intervalMs);
    }
  } finally {
    done();
  }
}

/** The process id of the one session behind a pool with `max: 1`; behind a pooler it holds for one transaction. */
export async function backendPid(session: TestSql): Promise<number> {
  const [row] = await session<{ pid: number }[]>`select pg_backend_pid() as pid`;
  if (!row) throw new Error("pg_backend_pid() returned nothing");
  return row.pid;
}

/**
 * Resolves when that session waits for a lock; `sql` is another pool, of any role. Behind a pooler a client has no session of its own:
 * then any that waits in this database will do.
 */
export async function waitForLockWait(sql: TestSql, pid: number): Promise<void> {
  await eventually(async () => {
    const waiting = await sql`
      select 1 from pg_locks join pg_stat_activity as session using (pid)
       where not granted and session.datname = current_database()
         and (pid = ${pid} or ${POOLER_CHOICE === "pooled"})`;
    return waiting.length > 0;
  });
}
