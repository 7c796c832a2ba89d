import { type RedrivenJob, redriveJobs } from "../../db/operator-functions.ts";
import type { Sql } from "../../db/sql.ts";
import { type CliContext, type CommandResult, interruptedError } from "../context.ts";
import { openDatabase } from "../database.ts";
import { startProgress } from "../output/progress.ts";
import { table } from "../output/table.ts";
import { count, countOf, distance, oneLine } from "../output/words.ts";

export interface RedriveOptions {
  readonly yes?: boolean;
  readonly id?: readonly string[];
  readonly type?: string;
  readonly tenant?: string;
  readonly fingerprint?: string;
  readonly olderThan?: number;
  readonly limit: number;
  readonly reason?: string;
  readonly withDescendants?: boolean;
}

/** Small enough that nobody waits for its locks, large enough that round trips don't count. */
const BATCH = 500;

/** Runs dead letters again. Without `--yes` it only tells which. */
export async function redrive(context: CliContext, options: RedriveOptions): CommandResult {
  const { sql } = await openDatabase(context);
  const found = await redriveJobs(sql, {
    ids: options.id,
    type: options.type,
    tenantId: options.tenant,
    fingerprint: options.fingerprint,
    ...(options.olderThan !== undefined && {
      failedBefore: new Date(Date.now() - options.olderThan),
    }),
    limit: options.limit,
    dryRun: true,
  });
  if (options.yes !== true) return void showPlan(context, found);

  const redriven = await redriveAll(context, sql, found, options);
  if (context.isJson) return void context.terminal.json({ dry_run: false, jobs: redriven });
  const { terminal } = context;
  terminal.line(
    redriven.length === 0
      ? "No dead letter matches."
      : `${terminal.style("good", "✓")} ${countOf(redriven.length, "job")} will run again${elsewhere(found, redriven)}`,
  );
  return undefined;
}

async function redriveAll(
  { terminal, interrupts }: CliContext,
  sql: Sql,
  found: readonly RedrivenJob[],
  { reason, withDescendants }: RedriveOptions,
): Promise<RedrivenJob[]> {
  const redriven: RedrivenJob[] = [];
  const progress = await startProgress(terminal, { label: "redriving", total: found.length });
  try {
    for (let start = 0; start < found.length; start += BATCH) {
      if (interrupts.stop.aborted) {
        throw interruptedError(
          `Interrupted: ${count(redriven.length)} of ${countOf(found.length, "job")} were redriven`,
          "Run the same command again for the rest",
        );
      }
      const ids = found.slice(start, start + BATCH).map((job) => job.id);
      redriven.push(...(await redriveJobs(sql, { ids, limit: BATCH, reason, withDescendants })));
      progress.update(redriven.length);
    }
  } finally {
    progress.end();
  }
  return redriven;
}

/** Between the look and the act somebody else may have redriven some. */
function elsewhere(found: readonly RedrivenJob[], redriven: readonly RedrivenJob[]): string {
  const missing = found.length - redriven.length;
  return missing === 0 ? "" : `; ${count(missing)} had been redriven or purged meanwhile`;
}

function showPlan({ terminal, isJson }: CliContext, found: readonly RedrivenJob[]): void {
  if (isJson) {
    terminal.json({ dry_run: true, jobs: found });
    return;
  }
  if (found.length === 0) {
    terminal.say("No dead letter matches.");
    return;
  }
  const { style, width } = terminal;
  const now = new Date();
  terminal.lines(
    table(
      [
        { title: "jobs", align: "right", cell: (group) => count(group.jobs.length) },
        { title: "type", cell: (group) => group.type },
        { title: "oldest", align: "right", cell: (group) => distance(group.oldest, now) },
        { title: "ids", cell: (group) => someIds(group.jobs) },
        { title: "last error", isFlexible: true, cell: (group) => oneLine(group.error, 120) },
      ],
      groups(found),
      { style, width, indent: "" },
    ),
  );
  terminal.say();
  terminal.say(
    `${countOf(found.length, "dead letter")} would run again. To do it: the same command with --yes`,
  );
}

interface Group {
  readonly type: string;
  readonly error: string;
  readonly oldest: Date;
  readonly jobs: RedrivenJob[];
}

/** Jobs of the same type that ended with the same words; the largest group first. */
function groups(jobs: readonly RedrivenJob[]): Group[] {
  const byKey = new Map<string, Group>();
  for (const job of jobs) {
    const error = oneLine(job.last_error, 120);
    const key = `${job.type}\n${error}`;
    const group = byKey.get(key);
    if (group) group.jobs.push(job);
    else byKey.set(key, { type: job.type, error, oldest: new Date(job.failed_at), jobs: [job] });
  }
  return [...byKey.values()].sort((a, b) => b.jobs.length - a.jobs.length);
}

function someIds(jobs: readonly RedrivenJob[]): string {
  const first = jobs.slice(0, 3).map((job) => job.id);
  return `${first.join(", ")}${jobs.length > first.length ? ", …" : ""}`;
}
