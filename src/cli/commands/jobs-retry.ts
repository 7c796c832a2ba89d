import { readJob, retryJob } from "../../db/operator-functions.ts";
import type { Sql } from "../../db/sql.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { type ActResult, reportActs } from "../output/act-results.ts";

export interface RetryCommandOptions {
  readonly reason?: string;
  readonly withDescendants?: boolean;
}

/** Runs jobs now, or again. */
export async function retryJobs(
  context: CliContext,
  ids: readonly string[],
  { reason, withDescendants }: RetryCommandOptions,
): CommandResult {
  const { sql } = await openDatabase(context);
  const results: ActResult[] = [];
  for (const id of ids) {
    results.push(await toResult(sql, id, await retryJob(sql, id, reason, withDescendants)));
  }
  return reportActs(context, results);
}

async function toResult(sql: Sql, id: string, status: string | null): Promise<ActResult> {
  if (status === "pending") return { id, ok: true, status, message: "may run now" };
  if (status !== null) return { id, ok: true, status, message: "is running already" };
  const job = await readJob(sql, id);
  if (job === null) return { id, ok: false, status: null, message: "does not exist" };
  const message =
    job.status === "blocked"
      ? `waits for other jobs: ${job.depends_on.slice(0, 5).join(", ")}`
      : `can't be retried: it is ${job.status}`;
  return { id, ok: false, status: job.status, message };
}
