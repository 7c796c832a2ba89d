import { backlogOf } from "../../db/inspect-run.ts";
import { type Application, loadApplication } from "../application.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { openDatabase } from "../database.ts";
import { EXIT } from "../exit-codes.ts";
import { LiveView } from "../live/live-view.ts";
import { type RunReport, runWorker } from "../live/run-worker.ts";
import { startProgress } from "../output/progress.ts";
import { duration } from "../output/words.ts";

export interface WorkOptions {
  readonly once?: boolean;
  readonly concurrency?: number;
  readonly queues?: Readonly<Record<string, number>>;
  /** Milliseconds. */
  readonly stopTimeout?: number;
}

/** A backlog this long gets a bar instead of a line for each job. */
const BAR_FROM_JOBS = 100;

/** Runs an application's jobs until a signal comes, or with `--once` until none is left. */
export async function work(context: CliContext, path: string, options: WorkOptions): CommandResult {
  const application = await loadApplication(context, path);
  const { sql, place } = await openDatabase(context, { max: 5 });
  const types = application.handlers.map((handler) => handler.job.type);
  const view = new LiveView(context, types);
  const startedAt = performance.now();
  const backlog = options.once ? await backlogOf(sql, types) : 0;
  const isBarred = !context.isJson && context.terminal.isWatched && backlog >= BAR_FROM_JOBS;
  tellStart(context, application, place);
  if (isBarred) {
    view.progress = await startProgress(context.terminal, { label: "working", total: backlog });
  }

  let report: RunReport;
  try {
    report = await runWorker(context, {
      sql,
      application,
      view,
      command: "work",
      once: options.once === true,
      queues: options.queues,
      concurrency: options.concurrency,
      stopTimeoutMs: options.stopTimeout,
    });
  } finally {
    view.progress?.end();
  }
  tellEnd(context, view, performance.now() - startedAt);
  return report.wasForced ? EXIT.interrupted : EXIT.ok;
}

function tellStart(
  { terminal, isJson }: CliContext,
  { path, handlers }: Application,
  place: string,
): void {
  const types = handlers.map((handler) => handler.job.type);
  if (isJson) {
    terminal.event({
      event: "ready",
      at: new Date().toISOString(),
      app: path,
      database: place,
      types,
    });
    return;
  }
  terminal.say(`Working for ${path} on ${place}: ${types.join(", ")}`);
}

function tellEnd({ terminal, isJson }: CliContext, { tally }: LiveView, elapsedMs: number): void {
  if (isJson) {
    const at = new Date().toISOString();
    terminal.event({
      event: "stopped",
      at,
      attempts: tally.toJson(),
      elapsed_ms: Math.round(elapsedMs),
    });
    return;
  }
  terminal.say(`Stopped after ${duration(elapsedMs)}: ${tally}`);
}
