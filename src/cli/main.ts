#!/usr/bin/env node
/** The program `millrace`: the only place that reads the process's arguments, environment and signals. */
import { EXIT } from "./exit-codes.ts";
import { runCli } from "./run-cli.ts";

const stop = new AbortController();
const force = new AbortController();

function interrupt(): void {
  if (!stop.signal.aborted) stop.abort();
  else if (!force.signal.aborted) force.abort();
  else process.exit(EXIT.interrupted);
}

/** `millrace jobs list | head` closes the pipe early; that is no failure. */
function onPipeError(error: NodeJS.ErrnoException): void {
  if (error.code === "EPIPE") process.exit(EXIT.ok);
  throw error;
}

process.on("SIGINT", interrupt);
process.on("SIGTERM", interrupt);
process.stdout.on("error", onPipeError);
process.stderr.on("error", onPipeError);

const exitCode = await runCli(process.argv.slice(2), {
  env: process.env,
  cwd: process.cwd(),
  stdout: process.stdout,
  stderr: process.stderr,
  interrupts: { stop: stop.signal, force: force.signal },
});

// An application may have left connections or timers behind; its end is ours to call. First everything must be written.
process.stdout.write("", () => process.stderr.write("", () => process.exit(exitCode)));
