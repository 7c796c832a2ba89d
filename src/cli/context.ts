import type { Environment } from "../embedded/run-program.ts";
import { CliError } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";
import type { Terminal } from "./output/terminal.ts";

/** The two requests to stop that a person or a supervisor can make. */
export interface Interrupts {
  /** Aborts at the first SIGINT or SIGTERM: finish what you do. */
  readonly stop: AbortSignal;
  /** Aborts at the second: give up. */
  readonly force: AbortSignal;
}

/** All that a command knows of the world. */
export interface CliContext {
  readonly env: Environment;
  readonly cwd: string;
  readonly terminal: Terminal;
  readonly interrupts: Interrupts;
  /** `--json`: data as JSON, for programs. */
  readonly isJson: boolean;
  /** `--database-url`. */
  readonly databaseUrl: string | undefined;
  /** Has something done when the command is over, however it ends; the last one comes first. */
  onEnd(cleanUp: () => Promise<unknown>): void;
}

/** What a command answers: its exit code, or nothing when all went well. */
export type CommandResult = Promise<number | undefined>;

/** Stopped by a person before the work was done. */
export function interruptedError(what = "Interrupted", fix?: string): CliError {
  return new CliError({ code: "INTERRUPTED", what, fix, exitCode: EXIT.interrupted });
}
