import { createQueue } from "../../client/create-queue.ts";
import { isInstalledOtherwise } from "../../db/inspect-migrations.ts";
import { endingsSince, markStart, type StartMark, sampleJob } from "../../db/inspect-run.ts";
import { checkServerVersion } from "../../db/inspect-server.ts";
import { migrate } from "../../db/migrate.ts";
import { type Application, loadApplication } from "../application.ts";
import { CliError } from "../cli-error.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { type OpenDatabase, openDatabase } from "../database.ts";
import { EXIT } from "../exit-codes.ts";
import { explainError } from "../explain-error.ts";
import { callName } from "../live/call-name.ts";
import { devHead } from "../live/dev-head.ts";
import { LiveView } from "../live/live-view.ts";
import { runWorker } from "../live/run-worker.ts";
import { summary, summaryJson } from "../live/summary.ts";

export interface DevOptions {
  readonly once?: boolean;
  /** False for `--no-seed`. */
  readonly seed: boolean;
  readonly concurrency?: number;
  /** Of the local Postgres. */
  readonly port?: number;
}

/** Database, migrations, worker and a live view of an application's jobs, in one command. */
export async function dev(context: CliContext, path: string, options: DevOptions): CommandResult {
  const startedAt = performance.now();
  const once = options.once === true;
  const application = await loadApplication(context, path);
  const database = await openDatabase(context, {
    schema: "any",
    mayCreate: true,
    max: 5,
    ...(options.port !== undefined && { port: options.port }),
  });
  const { version: serverVersion } = await checkServerVersion(database.sql);
  const isInstalled = await isInstalledOtherwise(database.sql);
  const applied = isInstalled ? 0 : (await migrate(database.sql)).length;
  const mark = await markStart(database.sql);
  if (options.seed) await seed(application, database);
  await tellReady(context, {
    application,
    database,
    serverVersion,
    applied,
    mark,
    once,
    startedAt,
  });

  const types = application.handlers.map((handler) => handler.job.type);
  const view = new LiveView(context, types);
  const workedFrom = performance.now();
  const report = await runWorker(context, {
    sql: database.sql,
    application,
    view,
    command: "dev",
    once,
    concurrency: options.concurrency,
  });
  await tellSummary(context, { database, mark, types, view, workedFrom });
  return report.wasForced ? EXIT.interrupted : EXIT.ok;
}

async function seed(application: Application, { sql }: OpenDatabase): Promise<void> {
  try {
    await application.seed?.(createQueue({ sql }));
  } catch (cause) {
    const { message, why, fix } = explainError(cause);
    throw new CliError({
      code: "SEED_FAILED",
      what: `seed() of ${application.path} failed: ${message}`,
      why,
      fix: fix ?? "Mend the seed, or leave it out with --no-seed",
      cause,
    });
  }
}

interface Ready {
  readonly application: Application;
  readonly database: OpenDatabase;
  readonly serverVersion: string;
  readonly applied: number;
  readonly mark: StartMark;
  readonly once: boolean;
  readonly startedAt: number;
}

async function tellReady({ terminal, isJson, env }: CliContext, ready: Ready): Promise<void> {
  const { application, database, serverVersion, applied, mark, once } = ready;
  const types = application.handlers.map((handler) => handler.job.type);
  const readyMs = performance.now() - ready.startedAt;
  if (isJson) {
    terminal.event({
      event: "ready",
      at: new Date().toISOString(),
      app: application.path,
      database: database.place,
      types,
      migrations_applied: applied,
      ready_ms: Math.round(readyMs),
    });
    return;
  }
  const sample = once ? null : await sampleJob(database.sql, mark, types);
  const facts = { application, database, serverVersion, applied, once, readyMs, sample, env };
  terminal.lines(devHead(facts, terminal.style));
}

interface Ended {
  readonly database: OpenDatabase;
  readonly mark: StartMark;
  readonly types: readonly string[];
  readonly view: LiveView;
  readonly workedFrom: number;
}

async function tellSummary({ terminal, isJson, env }: CliContext, ended: Ended): Promise<void> {
  const facts = {
    endings: await endingsSince(ended.database.sql, ended.mark, ended.types),
    tally: ended.view.tally,
    elapsedMs: performance.now() - ended.workedFrom,
    callName: callName(env),
  };
  if (isJson) terminal.event(summaryJson(facts));
  else terminal.lines(summary(facts, terminal.style, terminal.width));
}
