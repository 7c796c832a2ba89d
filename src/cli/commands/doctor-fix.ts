import { reconcile } from "../../db/inspect-recovery.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { countOf } from "../output/words.ts";

export interface RepairOptions {
  readonly yes?: boolean;
}

/** Repairs what a failover, a restore or a change of owner left behind. Without `--yes` it only tells what. */
export async function doctorFix(context: CliContext, { yes }: RepairOptions): CommandResult {
  const { sql, place } = await openDatabase(context);
  const dryRun = yes !== true;
  const repairs = await reconcile(sql, { dryRun });
  const { terminal } = context;
  if (context.isJson) return void terminal.json({ dry_run: dryRun, repairs });
  const { style } = terminal;
  for (const { message, is_repairable: can, is_repaired: did } of repairs) {
    const symbol = did ? style("good", "✓") : can ? style("notice", "·") : style("bad", "✗");
    const word = did ? "repaired" : can ? "can be repaired" : "is for you to look at";
    terminal.line(`${symbol} ${message}: ${word}`);
  }
  if (repairs.length === 0) terminal.line(`Nothing has to be repaired on ${place}.`);
  const open = repairs.filter((one) => one.is_repairable && !one.is_repaired).length;
  if (open > 0)
    terminal.line(`${countOf(open, "repair")}: add --yes to make ${open === 1 ? "it" : "them"}.`);
  return undefined;
}
