import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { deadline, raceSignal } from "../core/signals.ts";
import type { Deno } from "./deno.ts";
import { LocalPlatformError } from "./errors.ts";
import type { LocalFunction } from "./find-functions.ts";

/** The two streams of a function's process. */
export type LogStream = "stdout" | "stderr";

/** A function that runs and can be sent requests. */
export interface FunctionProcess {
  readonly pid: number;
  /** On 127.0.0.1. */
  readonly port: number;
  /** Resolves with how it ended, such as `exited with code 1`. */
  readonly ended: Promise<string>;
  /**
   * Tells the function (`beforeunload`), lets its requests and background work end for a while, and then kills it. `isForced` kills
   * it at once.
   */
  stop(options?: { isForced?: boolean }): Promise<void>;
}

export interface ProcessOptions {
  readonly deno: Deno;
  readonly fn: LocalFunction;
  /** All that the function may read, `.millrace` in it excepted. */
  readonly projectDir: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly onLine: (stream: LogStream, line: string) => void;
  /** Gives up a start that is under way. */
  readonly signal: AbortSignal;
  /** How long requests and background work may go on after the end was asked for. */
  readonly graceMs: number;
}

/** The first start may have to fetch packages. */
const START_MS = 120_000;
/** Beyond its grace, until it is killed. */
const KILL_AFTER_MS = 1_000;

/** Built, this file is JavaScript, and so is its neighbour. */
const EDGE_MAIN = fileURLToPath(
  new URL(`./edge-main${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url),
);

/** Starts a function under Deno and resolves when it listens. Rejects with FUNCTION_DID_NOT_START; its log says why. */
export async function startFunctionProcess(options: ProcessOptions): Promise<FunctionProcess> {
  const { deno, fn, signal, graceMs } = options;
  signal.throwIfAborted();
  const word = `millrace-${randomBytes(12).toString("hex")}`;
  const child = spawn(deno.path, denoArguments(options, word), {
    cwd: options.projectDir,
    env: { ...options.environment },
    stdio: ["pipe", "pipe", "pipe"],
    windowsHide: true,
  });
  // Writing to a process that is gone is no news.
  child.stdin.on("error", () => undefined);
  const ended = endOf(child);
  const patience = deadline(
    START_MS,
    () => new Error(`took longer than ${START_MS / 1000} s`),
    signal,
  );
  try {
    const early = ended.then((how) => Promise.reject(new Error(how)));
    early.catch(() => undefined);
    const listening = portOf(child, word, options.onLine);
    const port = await raceSignal(Promise.race([listening, early]), patience.signal);
    return { pid: child.pid ?? -1, port, ended, stop: (how) => end(child, ended, graceMs, how) };
  } catch (cause) {
    await end(child, ended, graceMs, { isForced: true });
    signal.throwIfAborted();
    throw new LocalPlatformError(
      "FUNCTION_DID_NOT_START",
      `The function ${fn.name} did not start: it ${cause instanceof Error ? cause.message : String(cause)}`,
      "Its log says why",
      cause,
    );
  } finally {
    patience.release();
  }
}

function denoArguments({ fn, projectDir, graceMs }: ProcessOptions, word: string): string[] {
  return [
    "run",
    "--quiet",
    "--no-prompt",
    // A lock file would be written for a newer Deno than Supabase's, which refuses it.
    "--no-lock",
    ...fn.config,
    "--allow-net",
    "--allow-env",
    "--allow-sys",
    `--allow-read=${projectDir}`,
    `--deny-read=${join(projectDir, ".millrace")}`,
    EDGE_MAIN,
    pathToFileURL(fn.entry).href,
    word,
    String(graceMs),
  ];
}

/** Hands on what is printed, line by line, and resolves with the port when that is told. */
function portOf(
  child: ChildProcess,
  word: string,
  onLine: ProcessOptions["onLine"],
): Promise<number> {
  return new Promise((resolve) => {
    for (const stream of ["stdout", "stderr"] as const) {
      const input = child[stream];
      if (!input) continue;
      createInterface({ input }).on("line", (line) => {
        if (stream === "stdout" && line.startsWith(`${word} `))
          resolve(Number(line.slice(word.length)));
        else onLine(stream, line);
      });
    }
  });
}

function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once("error", (error) => resolve(`could not be run: ${error.message}`));
    child.once("close", (code, signal) =>
      resolve(signal === null ? `exited with code ${code}` : `was ended by ${signal}`),
    );
  });
}

async function end(
  child: ChildProcess,
  ended: Promise<string>,
  graceMs: number,
  { isForced = false }: { isForced?: boolean } = {},
): Promise<void> {
  if (isForced) {
    child.kill("SIGKILL");
    await ended;
    return;
  }
  child.stdin?.end();
  const kill = setTimeout(() => child.kill("SIGKILL"), graceMs + KILL_AFTER_MS);
  await ended;
  clearTimeout(kill);
}
