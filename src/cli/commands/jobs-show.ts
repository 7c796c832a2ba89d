import { UnknownJobError } from "../../core/errors.ts";
import {
  type JobRow,
  readHistory,
  readJob,
  type StatusChange,
} from "../../db/operator-functions.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { lookOf } from "../output/status-words.ts";
import type { Style } from "../output/style.ts";
import { pairs, table } from "../output/table.ts";
import { dateTime, duration } from "../output/words.ts";

/** Shows all there is to know of one job. */
export async function showJob(context: CliContext, id: string): CommandResult {
  const { sql } = await openDatabase(context);
  const job = await readJob(sql, id);
  if (job === null) throw new UnknownJobError(id);
  const history = await readHistory(sql, id);
  if (context.isJson) return void context.terminal.json({ job, history });

  const { terminal } = context;
  const { style, width } = terminal;
  const { symbol, tone } = lookOf(job.status);
  terminal.line(`${style(tone, symbol)} ${style("strong", job.type)} #${job.id}  ${job.status}`);
  terminal.line();
  terminal.lines(pairs(facts(job), style));
  for (const [title, value] of documents(job)) {
    terminal.line();
    terminal.line(`  ${style("faint", title)}`);
    terminal.line(indented(typeof value === "string" ? value : JSON.stringify(value, null, 2)));
  }
  if (history.length > 0) {
    terminal.line();
    terminal.lines(table(historyColumns(style), history, { style, width }));
  }
  return undefined;
}

function facts(job: JobRow): [string, string][] {
  const entries: [string, string | null][] = [
    ["queue", job.queue],
    ["priority", job.priority],
    ["tenant", job.tenant_id],
    ["attempt", `${job.attempts} of ${job.max_retries + 1}`],
    ["made", time(job.created_at)],
    ["due", job.status === "scheduled" ? time(job.scheduled_at) : null],
    ["started", time(job.started_at)],
    ["ended", time(job.finished_at)],
    ["took", took(job)],
    ["waits for", job.depends_on.length > 0 ? job.depends_on.join(", ") : null],
    ["worker", job.worker_id],
    ["progress", job.progress_percent === null ? null : progress(job)],
  ];
  return entries.filter((entry): entry is [string, string] => entry[1] !== null);
}

function took({ started_at: started, finished_at: finished }: JobRow): string | null {
  if (started === null || finished === null) return null;
  return duration(new Date(finished).getTime() - new Date(started).getTime());
}

function progress(job: JobRow): string {
  return `${job.progress_percent}% ${job.progress_message ?? ""}`.trimEnd();
}

function documents(job: JobRow): [string, unknown][] {
  const error = job.status === "completed" ? null : errorText(job);
  const all: [string, unknown][] = [
    ["payload", job.payload],
    ["result", job.result],
    ["last error", error],
    ["options", job.options],
  ];
  return all.filter(([, value]) => value !== null && value !== undefined);
}

/** The handler's own stack is what its author looks for. */
function errorText({ error, last_error: message }: JobRow): string | null {
  const stack =
    typeof error === "object" && error !== null && "stack" in error ? error.stack : undefined;
  return typeof stack === "string" ? stack : message;
}

function historyColumns(style: Style): {
  title: string;
  cell: (step: StatusChange) => string;
  isOptional?: boolean;
  isFlexible?: boolean;
}[] {
  return [
    { title: "when", cell: (step) => time(step.at) ?? "" },
    {
      title: "status",
      cell: ({ to_status: to }) => `${style(lookOf(to).tone, lookOf(to).symbol)} ${to}`,
    },
    { title: "attempt", cell: (step) => step.attempt?.toString() ?? "" },
    { title: "by", isOptional: true, cell: (step) => step.actor ?? "" },
    { title: "reason", isOptional: true, isFlexible: true, cell: (step) => step.reason ?? "" },
  ];
}

function time(text: string | null): string | null {
  if (text === null) return null;
  const at = new Date(text);
  return `${dateTime(at)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

function indented(text: string): string {
  return text.replaceAll(/^/gm, "  ");
}
