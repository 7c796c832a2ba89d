import type { Command, CommanderError } from "commander";
import { raceSignal } from "../core/signals.ts";
import type { Environment } from "../embedded/run-program.ts";
import { usageError } from "./cli-error.ts";
import {
  type CliContext,
  type CommandResult,
  type Interrupts,
  interruptedError,
} from "./context.ts";
import { EXIT } from "./exit-codes.ts";
import { type Sink, Terminal } from "./output/terminal.ts";
import { buildProgram, type CommandAction, type GlobalOptions } from "./program.ts";

/** What the command line gets from the process it runs in. */
export interface World {
  readonly env: Environment;
  readonly cwd: string;
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly interrupts: Interrupts;
}

/** Runs one command line and answers its exit code. Never rejects; every failure is told on stderr. */
export async function runCli(argv: readonly string[], world: World): Promise<number> {
  const terminal = new Terminal(world);
  const cleanUps: (() => Promise<unknown>)[] = [];
  let exitCode: number = EXIT.ok;

  const execute = async (action: CommandAction, global: GlobalOptions): Promise<void> => {
    const databaseUrl = global.databaseUrl;
    terminal.hide([databaseUrl, world.env["DATABASE_URL"]]);
    const context: CliContext = {
      env: world.env,
      cwd: world.cwd,
      terminal,
      interrupts: world.interrupts,
      isJson: global.json === true,
      databaseUrl,
      onEnd: (cleanUp) => void cleanUps.push(cleanUp),
    };
    const running = action.run(context);
    exitCode =
      (await (action.stopsItself ? running : untilStop(running, world.interrupts))) ?? exitCode;
  };

  const options = { isJson: argv.includes("--json"), isDebug: world.env["MILLRACE_DEBUG"] === "1" };
  try {
    const program = buildProgram({
      execute,
      writeOut: (text) => void world.stdout.write(text),
    });
    await program
      .parseAsync(argv, { from: "user" })
      .catch((error: unknown) => refuse(error, program, argv));
  } catch (error) {
    exitCode = await tell(error, terminal, options);
  }
  for (const cleanUp of cleanUps.reverse()) {
    await cleanUp().catch((error: unknown) => tell(error, terminal, options));
  }
  return exitCode;
}

/** Shows a failure and answers its exit code. What that takes is loaded only now: most commands don't fail. */
async function tell(
  error: unknown,
  terminal: Terminal,
  options: { isJson: boolean; isDebug: boolean },
): Promise<number> {
  const [{ explainError }, { showError }] = await Promise.all([
    import("./explain-error.ts"),
    import("./show-error.ts"),
  ]);
  const shown = explainError(error);
  showError(terminal, shown, options);
  return shown.exitCode;
}

/** Most commands have nothing to bring to an end: what they were doing is left alone. */
async function untilStop(running: CommandResult, { stop }: Interrupts): CommandResult {
  try {
    return await raceSignal(running, stop);
  } catch (error) {
    if (!stop.aborted) throw error;
    running.catch(() => undefined);
    throw interruptedError();
  }
}

/** Commander reports help and version as errors too. */
function refuse(error: unknown, program: Command, argv: readonly string[]): void {
  if (!isCommanderError(error)) throw error;
  if (error.exitCode === 0 || error.code === "commander.help") return;
  const [first = "", ...rest] = error.message.replace(/^error: /, "").split("\n");
  const suggestion = rest.join(" ").trim();
  throw usageError(
    first.charAt(0).toUpperCase() + first.slice(1),
    `${suggestion === "" ? "" : `${suggestion} `}See ${calledCommand(program, argv)} --help`,
  );
}

function isCommanderError(error: unknown): error is CommanderError {
  return error instanceof Error && "exitCode" in error && error.name === "CommanderError";
}

/** The command that was meant, as far as its words were right: `millrace jobs show`. */
function calledCommand(program: Command, argv: readonly string[]): string {
  let command = program;
  let name = program.name();
  for (const word of argv) {
    const next = command.commands.find((one) => one.name() === word);
    if (!next) continue;
    command = next;
    name += ` ${word}`;
  }
  return name;
}
