import { Command, Option } from "commander";
import type { CliContext, CommandResult } from "./context.ts";
import { packageVersion } from "./package-version.ts";
import { defineDatabaseCommands } from "./program-database.ts";
import { defineJobCommands } from "./program-jobs.ts";
import { defineWorkerCommands } from "./program-worker.ts";

/** Options of every command, before or after its name. */
export interface GlobalOptions {
  readonly json?: true;
  readonly databaseUrl?: string;
}

export interface CommandAction {
  readonly run: (context: CliContext) => CommandResult;
  /** The command brings its work to an end by itself when it is asked to stop. */
  readonly stopsItself: boolean;
}

/**
 * What a command's definition ends with. Its module is loaded only when it runs, so that
 * `millrace --help` and each command start fast.
 */
export type RunCommand = (
  command: Command,
  run: CommandAction["run"],
  options?: { readonly stopsItself?: boolean },
) => Promise<void>;

export interface ProgramOptions {
  readonly execute: (action: CommandAction, global: GlobalOptions) => Promise<void>;
  readonly writeOut: (text: string) => void;
}

/** The whole command line: names, arguments and help of every command. */
export function buildProgram({ execute, writeOut }: ProgramOptions): Command {
  const program = new Command("millrace")
    .description("Background jobs in Postgres")
    .addOption(new Option("--database-url <url>", "Postgres to use; wins over DATABASE_URL"))
    .option("--json", "print data as JSON, for programs")
    .addHelpText("after", AFTER_HELP)
    .configureHelp({ showGlobalOptions: true })
    // A command without its arguments shows its help; that is an answer and no failure.
    .configureOutput({ writeOut, writeErr: writeOut, outputError: () => undefined })
    .helpCommand(false)
    .version(packageVersion(), "-V, --version")
    .exitOverride();

  const run: RunCommand = (command, action, { stopsItself = false } = {}) =>
    execute({ run: action, stopsItself }, command.optsWithGlobals());

  program.commandsGroup("Run jobs:");
  defineWorkerCommands(program, run);
  program.commandsGroup("Look and act:");
  defineJobCommands(program, run);
  program.commandsGroup("The database:");
  defineDatabaseCommands(program, run);
  return program;
}

const AFTER_HELP = `
The database is --database-url, else DATABASE_URL, else a local Postgres in .millrace/.
Exit codes: 0 done, 1 failed, 2 bad arguments, 3 database not usable, 4 schema does not fit, 130 interrupted.`;
