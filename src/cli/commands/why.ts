import { UnknownJobError } from "../../core/errors.ts";
import { explainJob } from "../../db/operator-functions.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { lookOf } from "../output/status-words.ts";

/** What to do about a reason, where there is something to do. */
const REMEDIES: Readonly<Record<string, (reason: Reason, id: string) => string>> = {
  not_due: (_reason, id) => `millrace jobs retry ${id}   runs it now`,
  queue_paused: ({ queue }) => `millrace queues resume ${queue}`,
  no_live_worker: () => "millrace work <app>   with an application that handles this type",
};

interface Reason {
  readonly code: string;
  readonly message: string;
  readonly queue?: string;
}

/** Tells why a job is not running, or what became of it. */
export async function why(context: CliContext, id: string): CommandResult {
  const { sql } = await openDatabase(context);
  const explanation = await explainJob(sql, id);
  if (explanation.status === null) throw new UnknownJobError(id);
  if (context.isJson) return void context.terminal.json(explanation);

  const { terminal } = context;
  const { style } = terminal;
  const { symbol, tone } = lookOf(explanation.status);
  terminal.line(`${style(tone, symbol)} Job ${id} is ${style("strong", explanation.status)}`);
  for (const reason of explanation.reasons) {
    terminal.line(`  ${reason.message}`);
    const remedy = REMEDIES[reason.code]?.(reason, id);
    if (remedy !== undefined) terminal.line(`  ${style("faint", `→ ${remedy}`)}`);
  }
  return undefined;
}
