import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { enqueueMany, type MadeJob, type NewJob } from "../../db/enqueue-functions.ts";
import type { Sql } from "../../db/sql.ts";
import { CliError, usageError } from "../cli-error.ts";
import { type CliContext, type CommandResult, interruptedError } from "../context.ts";
import { openDatabase } from "../database.ts";
import { explainError } from "../explain-error.ts";
import { type Progress, startProgress } from "../output/progress.ts";
import { count, countOf, duration } from "../output/words.ts";
import type { Complete } from "./definitions.ts";
import { type JobDefaults, parseJob, parsePayload } from "./job-lines.ts";

export interface FileRequest {
  /** Given: lines are payloads of this type. Not given: lines are whole jobs. */
  readonly type: string | undefined;
  readonly defaults: JobDefaults;
  readonly complete: Complete;
  readonly path: string;
  readonly fromLine: number;
}

/** One statement takes so many: few round trips, and a fault costs little. */
const CHUNK_JOBS = 1_000;
const CHUNK_CHARACTERS = 4_000_000;

interface Chunk {
  readonly firstLine: number;
  readonly jobs: NewJob[];
  lastLine: number;
  characters: number;
}

/** Enqueues a job for each line. Chunks are committed one by one; what went wrong tells where to go on. */
export async function enqueueFile(context: CliContext, request: FileRequest): CommandResult {
  const { input, bytes } = await open(context, request.path);
  const { sql } = await openDatabase(context);
  const progress = await startProgress(context.terminal, {
    label: "enqueuing",
    total: bytes ?? 0,
    format: (value) => `${(value / 1e6).toFixed(1)} MB`,
  });
  const run = new FileRun(sql, request, progress);
  const startedAt = performance.now();
  try {
    await run.readLines(input, context.interrupts.stop);
  } finally {
    progress.end();
  }
  report(context, run, performance.now() - startedAt);
  return undefined;
}

async function open(
  { cwd }: CliContext,
  path: string,
): Promise<{ input: Readable; bytes: number | undefined }> {
  if (path === "-") return { input: process.stdin, bytes: undefined };
  const file = resolve(cwd, path);
  const found = await stat(file).catch(() => undefined);
  if (!found?.isFile()) throw usageError(`There is no file ${path}`);
  return { input: createReadStream(file), bytes: found.size };
}

class FileRun {
  readonly #sql: Sql;
  readonly #request: FileRequest;
  readonly #progress: Progress;
  created = 0;
  existing = 0;
  firstId: string | null = null;
  lastId: string | null = null;

  constructor(sql: Sql, request: FileRequest, progress: Progress) {
    this.#sql = sql;
    this.#request = request;
    this.#progress = progress;
  }

  async readLines(input: Readable, stop: AbortSignal): Promise<void> {
    let line = 0;
    let bytes = 0;
    let chunk = newChunk(this.#request.fromLine);
    for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      line += 1;
      bytes += Buffer.byteLength(text) + 1;
      if (line < this.#request.fromLine || text.trim() === "") continue;
      if (stop.aborted) throw this.#interrupted(chunk);
      await this.#add(chunk, line, text);
      if (chunk.jobs.length < CHUNK_JOBS && chunk.characters < CHUNK_CHARACTERS) continue;
      await this.#send(chunk);
      this.#progress.update(bytes);
      chunk = newChunk(line + 1);
    }
    await this.#send(chunk);
  }

  async #add(chunk: Chunk, line: number, text: string): Promise<void> {
    const { type, defaults, complete } = this.#request;
    const subject = `Line ${count(line)}`;
    try {
      const job =
        type === undefined
          ? parseJob(text, subject, defaults)
          : { ...defaults, type, payload: text };
      const payload = type === undefined ? JSON.parse(job.payload) : parsePayload(text, subject);
      chunk.jobs.push(await complete(job, payload));
      chunk.characters += text.length;
      chunk.lastLine = line;
    } catch (error) {
      throw this.#stoppedAt(chunk, error, subject);
    }
  }

  async #send(chunk: Chunk): Promise<void> {
    const { jobs, firstLine, lastLine } = chunk;
    if (jobs.length === 0) return;
    let made: MadeJob[];
    try {
      made = await enqueueMany(this.#sql, jobs);
    } catch (error) {
      throw this.#stoppedAt(chunk, error, `In lines ${count(firstLine)} to ${count(lastLine)}`);
    }
    for (const { id, outcome } of made) {
      if (outcome === "created") this.created += 1;
      else this.existing += 1;
      this.firstId ??= id;
      this.lastId = id;
    }
  }

  /** The error, together with how far we came. */
  #stoppedAt({ firstLine }: Chunk, error: unknown, subject: string): CliError {
    const { code, message, why, fix, exitCode } = explainError(error);
    const what = message.startsWith(subject) ? message : `${subject}: ${message}`;
    return new CliError({
      code,
      what,
      why: [why, this.#sofar(firstLine)].filter((part) => part !== undefined).join("\n"),
      fix: [fix, `Then go on with --from-line ${firstLine}`].filter(Boolean).join("\n"),
      exitCode,
      cause: error,
    });
  }

  #interrupted({ firstLine }: Chunk): CliError {
    return interruptedError(
      `Interrupted: ${this.#sofar(firstLine)}`,
      `Go on with --from-line ${firstLine}`,
    );
  }

  #sofar(firstLine: number): string {
    const done = this.created + this.existing;
    return done === 0
      ? "nothing was enqueued"
      : `${countOf(done, "job")} of the lines before ${count(firstLine)} ${done === 1 ? "is" : "are"} enqueued, none after`;
  }
}

function newChunk(firstLine: number): Chunk {
  return { firstLine, lastLine: firstLine, jobs: [], characters: 0 };
}

function report({ terminal, isJson }: CliContext, run: FileRun, elapsedMs: number): void {
  const { created, existing, firstId, lastId } = run;
  if (isJson) {
    const ids = { first_id: firstId, last_id: lastId };
    terminal.json({ created, existing, ...ids, elapsed_ms: Math.round(elapsedMs) });
    return;
  }
  if (firstId === null) {
    terminal.say("The file holds no jobs.");
    return;
  }
  const ids = firstId === lastId ? `job ${firstId}` : `ids ${firstId} to ${lastId}`;
  const already = existing === 0 ? "" : `, ${count(existing)} existed already`;
  terminal.line(
    `${terminal.style("good", "✓")} ${countOf(created, "job")} enqueued in ${duration(elapsedMs)}${already} (${ids})`,
  );
}
