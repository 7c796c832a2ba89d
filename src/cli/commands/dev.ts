import { createQueue } from "../../client/create-queue.ts";
import { untilAborted } from "../../core/signals.ts";
import { isInstalledOtherwise } from "../../db/inspect-migrations.ts";
import { endingsSince, markStart, type StartMark, sampleJob } from "../../db/inspect-run.ts";
import { checkServerVersion } from "../../db/inspect-server.ts";
import { migrate } from "../../db/migrate.ts";
import { type Application, loadApplication } from "../application.ts";
import { CliError, usageError } from "../cli-error.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { type OpenDatabase, openDatabase } from "../database.ts";
import { EXIT } from "../exit-codes.ts";
import { explainError } from "../explain-error.ts";
import { callName } from "../live/call-name.ts";
import { type DevFunctions, hasFunctions, startDevFunctions } from "../live/dev-functions.ts";
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
  /** False for `--no-functions`. */
  readonly functions: boolean;
  readonly functionsPort?: number;
  /** Make pg_net and Vault in a database that was given. */
  readonly standIns?: boolean;
  readonly showKeys?: boolean;
}

/** Database, migrations, functions, and a worker with a live view of an application's jobs, in one command. */
export async function dev(
  context: CliContext,
  path: string | undefined,
  options: DevOptions,
): CommandResult {
  const startedAt = performance.now();
  const withFunctions = options.functions && (await hasFunctions(context));
  if (path === undefined) checkFunctionsOnly(options, withFunctions);
  const application = path === undefined ? undefined : await loadApplication(context, path);
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
  const functions = withFunctions
    ? await startDevFunctions(context, {
        database,
        standIns: options.standIns === true,
        port: options.functionsPort,
        mayLackDeno: application !== undefined,
      })
    : undefined;
  if (application && options.seed) await seed(application, database);
  const once = options.once === true;
  const ready = { application, functions, database, serverVersion, applied, mark, once, startedAt };
  await tellReady(context, ready);
  if (functions && options.showKeys) tellKeys(context, functions);
  if (application) return work(context, { application, database, mark, options });
  await untilAborted(context.interrupts.stop);
  if (!context.isJson) context.terminal.say("\n  Stopping");
  return context.interrupts.force.aborted ? EXIT.interrupted : EXIT.ok;
}

function checkFunctionsOnly({ once }: DevOptions, withFunctions: boolean): void {
  if (!withFunctions) {
    throw usageError(
      "There is nothing to run: no application was named, and there is no function in supabase/functions",
      "Name the module that exports your job handlers, such as jobs/app.ts, or run it where supabase/ is",
    );
  }
  if (once) {
    throw usageError("--once needs an application: functions alone don't end by themselves");
  }
}

interface Work {
  readonly application: Application;
  readonly database: OpenDatabase;
  readonly mark: StartMark;
  readonly options: DevOptions;
}

/** Runs the application's jobs in this process. */
async function work(
  context: CliContext,
  { application, database, mark, options }: Work,
): CommandResult {
  const types = application.handlers.map((handler) => handler.job.type);
  const view = new LiveView(context, types);
  const workedFrom = performance.now();
  const report = await runWorker(context, {
    sql: database.sql,
    application,
    view,
    command: "dev",
    once: options.once === true,
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
  readonly application: Application | undefined;
  readonly functions: DevFunctions | undefined;
  readonly database: OpenDatabase;
  readonly serverVersion: string;
  readonly applied: number;
  readonly mark: StartMark;
  readonly once: boolean;
  readonly startedAt: number;
}

async function tellReady({ terminal, isJson, env }: CliContext, ready: Ready): Promise<void> {
  const { application, functions, database, serverVersion, applied, mark, once } = ready;
  const types = application?.handlers.map((handler) => handler.job.type) ?? [];
  const readyMs = performance.now() - ready.startedAt;
  if (isJson) {
    terminal.event({
      event: "ready",
      at: new Date().toISOString(),
      app: application?.path ?? null,
      database: database.place,
      types,
      migrations_applied: applied,
      ready_ms: Math.round(readyMs),
      functions_url: functions?.platform.server.functionsUrl ?? null,
      functions: functions?.names ?? [],
      has_doorbell: functions?.platform.hasDoorbell ?? false,
    });
    return;
  }
  const sample = once ? null : await sampleJob(database.sql, mark, types);
  const facts = { ...ready, application, functions, serverVersion, applied, readyMs, sample, env };
  terminal.lines(devHead(facts, terminal.style));
}

/** They are secrets, so only where somebody asked for them. */
function tellKeys({ terminal, isJson }: CliContext, { platform: { keys } }: DevFunctions): void {
  if (isJson) {
    terminal.json({
      event: "keys",
      publishable_key: keys.publishableKey,
      secret_key: keys.secretKey,
      anon_key: keys.anonKey,
      service_role_key: keys.serviceRoleKey,
      queue_worker_token: keys.workerToken,
    });
    return;
  }
  for (const [name, key] of [
    ["Publishable", keys.publishableKey],
    ["Secret", keys.secretKey],
    ["Anon", keys.anonKey],
    ["Service", keys.serviceRoleKey],
    ["Doorbell", keys.workerToken],
  ] as const) {
    terminal.raw(`  ${terminal.style("faint", name.padEnd(12))}${key}`);
  }
  terminal.line();
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
