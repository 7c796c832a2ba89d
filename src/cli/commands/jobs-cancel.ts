import { cancelJob } from "../../db/operator-functions.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { type ActResult, reportActs } from "../output/act-results.ts";

/** Cancels jobs: waiting ones at once, running ones by asking their handlers to stop. */
export async function cancelJobs(
  context: CliContext,
  ids: readonly string[],
  reason: string | undefined,
): CommandResult {
  const { sql } = await openDatabase(context);
  const results: ActResult[] = [];
  for (const id of ids) results.push(toResult(id, await cancelJob(sql, id, reason)));
  return reportActs(context, results);
}

function toResult(id: string, status: string | null): ActResult {
  switch (status) {
    case "cancelled":
      return { id, ok: true, status, message: "is cancelled" };
    case "processing":
      return { id, ok: true, status, message: "is running; its handler was asked to stop" };
    case null:
      return { id, ok: false, status, message: "does not exist" };
    default:
      return { id, ok: false, status, message: `has ended already: ${status}` };
  }
}
