import type { CliContext } from "../context.ts";
import { EXIT } from "../exit-codes.ts";

/** What came of an act on one job. */
export interface ActResult {
  readonly id: string;
  readonly ok: boolean;
  /** The job's status now; null when there is no such job. */
  readonly status: string | null;
  /** Goes on after "Job 7 …". */
  readonly message: string;
}

/** Shows a line for each job and answers the exit code: a failure if any act was refused. */
export function reportActs(
  { terminal, isJson }: CliContext,
  results: readonly ActResult[],
): number {
  if (isJson) terminal.json({ results });
  else {
    for (const { id, ok, message } of results) {
      const mark = ok ? terminal.style("good", "✓") : terminal.style("bad", "✗");
      terminal.line(`${mark} Job ${id} ${message}`);
    }
  }
  return results.every((result) => result.ok) ? EXIT.ok : EXIT.failure;
}
