import { type JobRow, listJobs as readJobs } from "../../db/operator-functions.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { lookOf } from "../output/status-words.ts";
import { type Column, table } from "../output/table.ts";
import { distance, oneLine } from "../output/words.ts";

export interface ListOptions {
  readonly status?: string;
  readonly type?: string;
  readonly queue?: string;
  readonly tenant?: string;
  readonly limit: number;
  readonly before?: string;
}

/** Shows jobs, newest first. */
export async function listJobs(context: CliContext, options: ListOptions): CommandResult {
  const { sql } = await openDatabase(context);
  const jobs = await readJobs(sql, {
    status: options.status,
    type: options.type,
    queue: options.queue,
    tenantId: options.tenant,
    beforeId: options.before,
    limit: options.limit,
  });
  const nextBefore = jobs.length === options.limit ? (jobs.at(-1)?.id ?? null) : null;
  if (context.isJson) return void context.terminal.json({ jobs, next_before: nextBefore });

  const { terminal } = context;
  if (jobs.length === 0) return void terminal.say("No job matches.");
  const { style, width } = terminal;
  terminal.lines(table(columns(context, new Date()), jobs, { style, width, indent: "" }));
  if (nextBefore !== null) terminal.say(`older ones: --before ${nextBefore}`);
  return undefined;
}

function columns({ terminal: { style } }: CliContext, now: Date): Column<JobRow>[] {
  return [
    { title: "id", align: "right", cell: (job) => job.id },
    { title: "type", cell: (job) => job.type },
    {
      title: "status",
      cell: ({ status }) => `${style(lookOf(status).tone, lookOf(status).symbol)} ${status}`,
    },
    { title: "attempt", align: "right", cell: (job) => `${job.attempts}/${job.max_retries + 1}` },
    {
      title: "priority",
      isOptional: true,
      cell: ({ priority }) => (priority === "normal" ? "" : priority),
    },
    {
      title: "queue",
      isOptional: true,
      cell: ({ queue, type }) => (queue === type ? "" : queue),
    },
    { title: "tenant", isOptional: true, cell: (job) => job.tenant_id ?? "" },
    { title: "made", align: "right", cell: (job) => distance(new Date(job.created_at), now) },
    { title: "note", isOptional: true, isFlexible: true, cell: (job) => note(job, now) },
  ];
}

function note(job: JobRow, now: Date): string {
  if (job.status === "scheduled" && job.scheduled_at !== null) {
    const due = `due ${distance(new Date(job.scheduled_at), now)}`;
    return job.last_error === null ? due : `${due}: ${oneLine(job.last_error, 120)}`;
  }
  if (job.status === "blocked") return `waits for ${job.depends_on.slice(0, 5).join(", ")}`;
  if (job.status === "processing" && job.progress_percent !== null) {
    return `${job.progress_percent}% ${job.progress_message ?? ""}`.trimEnd();
  }
  return job.status === "completed" ? "" : oneLine(job.last_error ?? "", 120);
}
