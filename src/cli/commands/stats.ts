import { queueHealth, queueStats } from "../../db/operator-functions.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { pairs } from "../output/table.ts";
import { count, countOf, duration } from "../output/words.ts";

/** The sums over all queues; the names are those of `queue_stats`. */
const SUMMED = [
  "pending",
  "scheduled",
  "blocked",
  "processing",
  "dead_letters",
  "completed_last_hour",
  "failed_last_hour",
  "retried_last_hour",
] as const;

type Totals = Record<(typeof SUMMED)[number], number>;

/** What `queue_health()` answers. */
interface Health {
  readonly status: string;
  readonly live_workers: number;
  readonly oldest_pending_seconds: number | null;
  readonly problems: readonly { readonly code: string; readonly message: string }[];
}

/** Shows whether the system is well, and what it did in the last hour. */
export async function stats(context: CliContext): CommandResult {
  const { sql } = await openDatabase(context);
  const health = (await queueHealth(sql)) as unknown as Health;
  const queues = await queueStats(sql);
  const totals = Object.fromEntries(
    SUMMED.map((name) => [name, queues.reduce((sum, queue) => sum + queue[name], 0)]),
  ) as Totals;
  if (context.isJson) return void context.terminal.json({ health, totals, queues });

  const { terminal } = context;
  const { style } = terminal;
  const isWell = health.status === "ok";
  terminal.line(
    `${style(isWell ? "good" : "notice", isWell ? "✓" : "!")} The queue is ${isWell ? "well" : health.status}`,
  );
  for (const { message } of health.problems) terminal.line(`  ${style("notice", message)}`);
  terminal.line();
  terminal.lines(pairs(facts(totals, health), style));
  return undefined;
}

function facts(totals: Totals, health: Health): [string, string][] {
  const oldest = health.oldest_pending_seconds;
  return [
    ["workers", countOf(health.live_workers, "alive", "alive")],
    [
      "waiting",
      `${count(totals.pending)} pending, ${count(totals.scheduled)} scheduled, ${count(totals.blocked)} blocked`,
    ],
    ["oldest pending", oldest === null ? "none" : `since ${duration(oldest * 1_000)}`],
    ["processing", count(totals.processing)],
    [
      "last hour",
      `${count(totals.completed_last_hour)} completed, ${count(totals.retried_last_hour)} to be tried again, ${count(totals.failed_last_hour)} failed`,
    ],
    ["dead letters", count(totals.dead_letters)],
  ];
}
