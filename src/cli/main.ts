#!/usr/bin/env node
/** The program `millrace`: the only place that reads the process's arguments, environment and signals. */
import { isDriverFault } from "../db/postgres-js.ts";
import { EXIT } from "./exit-codes.ts";
import { runCli } from "./run-cli.ts";

/** Ctrl-C under npm arrives twice, once from the terminal and once from npm: that is one wish, not two. */
const ECHO_MS = 700;

const stop = new AbortController();
const force = new AbortController();
let stoppedAt = 0;
let crashed = false;

function interrupt(): void {
  if (!stop.signal.aborted) {
    stoppedAt = performance.now();
    stop.abort();
  } else if (performance.now() - stoppedAt < ECHO_MS) {
    return;
  } else if (!force.signal.aborted) {
    force.abort();
  } else {
    process.exit(EXIT.interrupted);
  }
}

/** An application let an error escape from everything that could catch it: its other jobs may still end well. */
function onEscapedError(error: unknown): void {
  if (isDriverFault(error)) {
    console.error("A connection broke while it was written to; it is replaced");
    return;
  }
  console.error("✗ An error escaped from the application; stopping", error);
  if (crashed) process.exit(EXIT.failure);
  crashed = true;
  stop.abort();
}

/** `millrace jobs list | head` closes the pipe early; that is no failure. */
function onPipeError(error: NodeJS.ErrnoException): void {
  if (error.code === "EPIPE") process.exit(EXIT.ok);
  throw error;
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, interrupt);
process.on("uncaughtException", onEscapedError);
process.stdout.on("error", onPipeError);
process.stderr.on("error", onPipeError);

const ended = await runCli(process.argv.slice(2), {
  env: process.env,
  cwd: process.cwd(),
  stdout: process.stdout,
  stderr: process.stderr,
  interrupts: { stop: stop.signal, force: force.signal },
});
const exitCode = crashed ? EXIT.failure : ended;

// An application may have left connections or timers behind; its end is ours to call. First everything must be written.
process.stdout.write("", () => process.stderr.write("", () => process.exit(exitCode)));
