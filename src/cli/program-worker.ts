import { type Command, Option } from "commander";
import {
  durationMs,
  jobIds,
  PRIORITY_NAMES,
  pointInTime,
  queueShares,
  wholeNumber,
} from "./arguments.ts";
import type { DevOptions } from "./commands/dev.ts";
import type { EnqueueOptions } from "./commands/enqueue.ts";
import type { WorkOptions } from "./commands/work.ts";
import type { RunCommand } from "./program.ts";

/** dev, work, enqueue. */
export function defineWorkerCommands(program: Command, run: RunCommand): void {
  program
    .command("dev")
    .description(
      "start or join the database, migrate it, serve supabase/functions, run an application's jobs and show them live",
    )
    .argument(
      "[app]",
      "module that exports handlers, and optionally queues and seed; may be left out where functions are",
    )
    .option("--once", "end when no job is left to run")
    .option("--no-seed", "do not call the application's seed")
    .option("--concurrency <n>", "jobs at a time", wholeNumber(1, 1_000))
    .option("--port <n>", "port of the local Postgres", wholeNumber(1, 65_535))
    .option("--no-functions", "do not serve supabase/functions")
    .option(
      "--functions-port <n>",
      "port of functions; 54321 or a free one if left out",
      wholeNumber(1, 65_535),
    )
    .option(
      "--stand-ins",
      "install stand-ins of pg_net and Vault in the database of DATABASE_URL too: never in production",
    )
    .option("--show-keys", "print the keys of local functions")
    .action((app: string | undefined, options: DevOptions, command: Command) =>
      run(
        command,
        async (context) => (await import("./commands/dev.ts")).dev(context, app, options),
        {
          stopsItself: true,
        },
      ),
    );

  program
    .command("work")
    .description("run an application's jobs in production; SIGTERM stops it gracefully")
    .argument("<app>", "module that exports handlers, and optionally queues")
    .option("--once", "end when no job is left to run")
    .option(
      "--concurrency <n>",
      "jobs at a time, of all queues that have no number",
      wholeNumber(1, 1_000),
    )
    .option(
      "--queues <list>",
      "only these, such as mail=20,report=2; * stands for all others",
      queueShares,
    )
    .option(
      "--stop-timeout <duration>",
      "how long running jobs may go on after a signal",
      durationMs,
    )
    .action((app: string, options: WorkOptions, command: Command) =>
      run(
        command,
        async (context) => (await import("./commands/work.ts")).work(context, app, options),
        {
          stopsItself: true,
        },
      ),
    );

  defineEnqueue(program, run);
}

function defineEnqueue(program: Command, run: RunCommand): void {
  program
    .command("enqueue")
    .description("make a job, or many from a file")
    .argument("[type]", "the jobs' type; a file may name it line by line")
    .argument("[payload]", "JSON; - reads it from stdin")
    .option(
      "--file <path>",
      "one job a line: payloads when a type is given, else whole jobs; - is stdin",
    )
    .option("--from-line <n>", "skip what comes before this line of the file", wholeNumber(1, 1e12))
    .addOption(
      new Option("--priority <name>", "order among jobs that may run").choices(PRIORITY_NAMES),
    )
    .addOption(new Option("--at <time>", "run it no sooner than this").argParser(pointInTime))
    .addOption(
      new Option("--in <duration>", "run it no sooner than this from now")
        .argParser(durationMs)
        .conflicts("at"),
    )
    .option("--tenant <id>", "the tenant it belongs to")
    .option("--queue <name>", "its queue, if that is not its type")
    .option("--max-retries <n>", "how often it is tried again", wholeNumber(0, 10_000))
    .option("--key <key>", "idempotency key: a second job with it is the first one")
    .option("--depends-on <ids>", "jobs that must complete before", jobIds)
    .option(
      "--app <module>",
      "check payloads, and fill in policies, by this application's definitions",
    )
    .option("--wait [duration]", "wait for the result, 30s if not said otherwise", durationMs)
    .action(
      (
        type: string | undefined,
        payload: string | undefined,
        options: EnqueueOptions,
        command: Command,
      ) =>
        run(
          command,
          async (context) =>
            (await import("./commands/enqueue.ts")).enqueue(context, { type, payload }, options),
          { stopsItself: true },
        ),
    );
}
