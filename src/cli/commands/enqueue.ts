import { text as readAll } from "node:stream/consumers";
import { awaitResult } from "../../client/await-result.ts";
import { systemClock } from "../../core/clock.ts";
import { JobCancelledError, JobFailedError } from "../../core/errors.ts";
import { enqueueOne, type MadeJob, type NewJob } from "../../db/enqueue-functions.ts";
import { explainJob } from "../../db/operator-functions.ts";
import type { Sql } from "../../db/sql.ts";
import { CliError, usageError } from "../cli-error.ts";
import { type CliContext, type CommandResult, interruptedError } from "../context.ts";
import { openDatabase } from "../database.ts";
import { type Complete, loadDefinitions } from "../enqueue/definitions.ts";
import { enqueueFile } from "../enqueue/enqueue-file.ts";
import { type JobDefaults, parsePayload } from "../enqueue/job-lines.ts";
import { EXIT } from "../exit-codes.ts";
import { dateTime } from "../output/words.ts";

export interface EnqueueOptions {
  readonly file?: string;
  readonly fromLine?: number;
  readonly priority?: string;
  readonly at?: Date;
  /** Milliseconds. */
  readonly in?: number;
  readonly tenant?: string;
  readonly queue?: string;
  readonly maxRetries?: number;
  readonly key?: string;
  readonly dependsOn?: readonly string[];
  readonly app?: string;
  /** Milliseconds; true for the usual time. */
  readonly wait?: number | true;
}

export interface EnqueueArguments {
  readonly type: string | undefined;
  readonly payload: string | undefined;
}

const USUAL_WAIT_MS = 30_000;

/** Makes one job, or a job for each line of a file. */
export async function enqueue(
  context: CliContext,
  { type, payload }: EnqueueArguments,
  options: EnqueueOptions,
): CommandResult {
  const defaults = toDefaults(options);
  const complete = await loadDefinitions(context, options.app);
  if (options.file !== undefined) {
    refuseForFile(payload, options);
    return enqueueFile(context, {
      type,
      defaults,
      complete,
      path: options.file,
      fromLine: options.fromLine ?? 1,
    });
  }
  if (type === undefined) {
    throw usageError(
      "Which type of job?",
      'Such as: millrace enqueue mail.send \'{"to":"ada@example.com"}\'',
    );
  }
  const job = await toJob({ type, payload }, options, complete);
  const { sql } = await openDatabase(context, { mayCreate: false });
  const made = await enqueueOne(sql, job);
  return options.wait === undefined
    ? report(context, sql, job, made)
    : wait(context, sql, job, {
        made,
        timeoutMs: options.wait === true ? USUAL_WAIT_MS : options.wait,
      });
}

function refuseForFile(payload: string | undefined, { key, wait: waits }: EnqueueOptions): void {
  if (payload !== undefined) throw usageError("--file and a payload exclude each other");
  if (key !== undefined) {
    throw usageError("--key is for one job", "Put an idempotency_key into each line of the file");
  }
  if (waits !== undefined)
    throw usageError("--wait is for one job", "Leave --wait away with --file");
}

function toDefaults(options: EnqueueOptions): JobDefaults {
  return {
    priority: options.priority,
    scheduledAt: options.at?.toISOString(),
    delayMs: options.in,
    tenantId: options.tenant,
    queue: options.queue,
    maxRetries: options.maxRetries,
    dependsOn: options.dependsOn,
  };
}

async function toJob(
  { type, payload = "{}" }: { type: string; payload: string | undefined },
  options: EnqueueOptions,
  complete: Complete,
): Promise<NewJob> {
  const text = payload === "-" ? await readAll(process.stdin) : payload;
  const job = { ...toDefaults(options), type, payload: text, idempotencyKey: options.key };
  return complete(job, parsePayload(text, "The payload"));
}

async function report(
  { terminal, isJson }: CliContext,
  sql: Sql,
  job: NewJob,
  made: MadeJob,
): CommandResult {
  if (isJson) return void terminal.json({ ...made, type: job.type });
  terminal.line(`${terminal.style("good", "✓")} ${sentence(job, made)}`);
  const { reasons } = await explainJob(sql, made.id);
  const orphan = reasons.find((reason) => reason.code === "no_live_worker");
  if (orphan) terminal.say(`  ${terminal.talkStyle("notice", orphan.message)}`);
  return undefined;
}

function sentence(job: NewJob, { id, outcome }: MadeJob): string {
  if (outcome === "existing") return `Job ${id} exists already with this key`;
  const due =
    job.scheduledAt !== undefined
      ? new Date(job.scheduledAt)
      : job.delayMs !== undefined && new Date(Date.now() + job.delayMs);
  return `Job ${id} enqueued: ${job.type}${due ? `, due ${dateTime(due)}` : ""}`;
}

async function wait(
  { terminal, isJson, interrupts }: CliContext,
  sql: Sql,
  job: NewJob,
  { made, timeoutMs }: { made: MadeJob; timeoutMs: number },
): CommandResult {
  if (!isJson) terminal.say(`${sentence(job, made)}; waiting for its result`);
  try {
    const options = { timeoutMs, signal: interrupts.stop };
    const result = await awaitResult(sql, made.id, options, systemClock);
    terminal.json(isJson ? { ...made, type: job.type, status: "completed", result } : result);
    return undefined;
  } catch (error) {
    if (interrupts.stop.aborted) {
      throw interruptedError(
        `Interrupted; job ${made.id} goes on`,
        `millrace jobs show ${made.id}`,
      );
    }
    const status = endedAs(error);
    if (status === undefined) throw error;
    const reason = error instanceof JobFailedError ? (error.error ?? null) : null;
    if (isJson) terminal.json({ ...made, type: job.type, status, error: reason });
    throw new CliError({
      code: error instanceof JobFailedError ? error.code : "JOB_CANCELLED",
      what: error instanceof Error ? error.message : `Job ${made.id} ended as ${status}`,
      fix: `millrace jobs show ${made.id}`,
      exitCode: EXIT.failure,
      cause: error,
    });
  }
}

function endedAs(error: unknown): "failed" | "cancelled" | undefined {
  if (error instanceof JobFailedError) return "failed";
  return error instanceof JobCancelledError ? "cancelled" : undefined;
}
