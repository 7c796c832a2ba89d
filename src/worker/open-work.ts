import { openJobs } from "../db/open-jobs.ts";
import type { Sql } from "../db/sql.ts";
import type { Lane } from "./lane.ts";
import type { Link } from "./link.ts";

/** Whether a job that one of these lanes serves is under way, wherever it is, or falls due within the horizon. */
export async function isSomethingOpen(
  lanes: readonly Lane[],
  link: Link,
  sql: Sql,
  horizonMs: number,
): Promise<boolean> {
  for (const { scope } of lanes) {
    const open = await link.call((signal) => openJobs(sql, scope, signal));
    if (open.pending || open.processing) return true;
    if (open.next_due_in_ms !== null && open.next_due_in_ms <= horizonMs) return true;
  }
  return false;
}
