import { callJson } from "./call.ts";
import type { Queryable } from "./sql.ts";

/**
 * Frees or cancels jobs whose parents have ended and left them, because there were many or somebody held them. One slice; `is_more`:
 * some are left.
 */
export async function sweepChildren(
  db: Queryable,
  signal?: AbortSignal,
): Promise<{ readonly swept: number; readonly is_more: boolean }> {
  return (await callJson(db, `select queue.sweep_children()::text`, [], { signal })) as {
    swept: number;
    is_more: boolean;
  };
}
