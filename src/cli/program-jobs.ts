import { type Command, Option } from "commander";
import { durationMs, jobId, jobIds, STATUSES, wholeNumber } from "./arguments.ts";
import type { ListOptions } from "./commands/jobs-list.ts";
import type { RetryCommandOptions } from "./commands/jobs-retry.ts";
import type { RedriveOptions } from "./commands/redrive.ts";
import type { RunCommand } from "./program.ts";

/** jobs, redrive, queues, stats, why. */
export function defineJobCommands(program: Command, run: RunCommand): void {
  defineJobs(program, run);
  defineRedrive(program, run);
  defineQueues(program, run);

  program
    .command("stats")
    .description("whether the system is well, and what it did in the last hour")
    .action((_options: unknown, command: Command) =>
      run(command, async (context) => (await import("./commands/stats.ts")).stats(context)),
    );

  program
    .command("why")
    .description("why a job is not running, or what became of it")
    .argument("<id>", "the job's id", jobId)
    .action((id: string, _options: unknown, command: Command) =>
      run(command, async (context) => (await import("./commands/why.ts")).why(context, id)),
    );
}

function defineJobs(program: Command, run: RunCommand): void {
  const jobs = program.command("jobs").description("list, show, retry and cancel jobs");

  jobs
    .command("list")
    .description("jobs, newest first")
    .addOption(new Option("--status <status>", "only these").choices(STATUSES))
    .option("--type <type>", "only this type")
    .option("--queue <queue>", "only this queue")
    .option("--tenant <id>", "only this tenant's")
    .option("--limit <n>", "how many", wholeNumber(1, 1_000), 20)
    .option("--before <id>", "only older ones: the last id of the page before", jobId)
    .action((options: ListOptions, command: Command) =>
      run(command, async (context) =>
        (await import("./commands/jobs-list.ts")).listJobs(context, options),
      ),
    );

  jobs
    .command("show")
    .description("one job: its facts, payload, result, error and history")
    .argument("<id>", "the job's id", jobId)
    .action((id: string, _options: unknown, command: Command) =>
      run(command, async (context) =>
        (await import("./commands/jobs-show.ts")).showJob(context, id),
      ),
    );

  jobs
    .command("retry")
    .description("run jobs now: scheduled ones without waiting, failed and cancelled ones again")
    .argument("<ids...>", "the jobs' ids", jobIds)
    .option("--with-descendants", "also jobs that were cancelled because of them, after them")
    .option("--reason <text>", "kept in the job's history")
    .action((ids: string[], options: RetryCommandOptions, command: Command) =>
      run(command, async (context) =>
        (await import("./commands/jobs-retry.ts")).retryJobs(context, ids, options),
      ),
    );

  jobs
    .command("cancel")
    .description("cancel waiting jobs at once; ask running ones to stop")
    .argument("<ids...>", "the jobs' ids", jobIds)
    .option("--reason <text>", "kept in the job's history")
    .action((ids: string[], { reason }: { reason?: string }, command: Command) =>
      run(command, async (context) =>
        (await import("./commands/jobs-cancel.ts")).cancelJobs(context, ids, reason),
      ),
    );
}

function defineRedrive(program: Command, run: RunCommand): void {
  program
    .command("redrive")
    .description("run dead letters again; without --yes only tells which")
    .option("--yes", "do it")
    .option("--id <ids>", "only these jobs", jobIds)
    .option("--type <type>", "only this type")
    .option("--tenant <id>", "only this tenant's")
    .option("--fingerprint <hash>", "only those that ended with this error")
    .option("--older-than <duration>", "only those that failed longer ago, such as 2h", durationMs)
    .option("--limit <n>", "how many at most, oldest first", wholeNumber(1, 1_000_000), 1_000)
    .option("--with-descendants", "also jobs that were cancelled because of them, after them")
    .option("--reason <text>", "kept in the jobs' history")
    .action((options: RedriveOptions, command: Command) =>
      run(
        command,
        async (context) => (await import("./commands/redrive.ts")).redrive(context, options),
        {
          stopsItself: true,
        },
      ),
    );
}

function defineQueues(program: Command, run: RunCommand): void {
  const queues = program
    .command("queues")
    .description("the queues and how full they are; pause and resume");
  queues.action((_options: unknown, command: Command) =>
    run(command, async (context) => (await import("./commands/queues.ts")).listQueues(context)),
  );

  queues
    .command("list")
    .description("the queues and how full they are")
    .action((_options: unknown, command: Command) =>
      run(command, async (context) => (await import("./commands/queues.ts")).listQueues(context)),
    );

  queues
    .command("pause")
    .description("claim nothing more from a queue; running jobs go on")
    .argument("<queue>", "its name")
    .option("--reason <text>", "shown to whoever asks why")
    .action((queue: string, { reason }: { reason?: string }, command: Command) =>
      run(command, async (context) =>
        (await import("./commands/queues.ts")).setPaused(context, queue, {
          isPaused: true,
          reason,
        }),
      ),
    );

  queues
    .command("resume")
    .description("let a paused queue go on")
    .argument("<queue>", "its name")
    .action((queue: string, _options: unknown, command: Command) =>
      run(command, async (context) =>
        (await import("./commands/queues.ts")).setPaused(context, queue, { isPaused: false }),
      ),
    );
}
