import type { Command } from "commander";
import { wholeNumber } from "./arguments.ts";
import type { BenchOptions } from "./commands/bench.ts";
import type { RepairOptions } from "./commands/doctor-fix.ts";
import type { InitOptions } from "./commands/init.ts";
import type { RunCommand } from "./program.ts";

/** init, migrate, doctor, bench. */
export function defineDatabaseCommands(program: Command, run: RunCommand): void {
  program
    .command("init")
    .description("write the queue's migrations and its Edge Function into a Supabase project")
    .argument("[dir]", "the project: the folder that holds supabase/config.toml")
    .option("--supabase", "needed: there is no other kind of project yet")
    .option("--functions", "the reference functions that jobs are routed to as well")
    .option("--force", "replace files that differ")
    .option("--dry-run", "write nothing, only tell what would be written")
    .action((dir: string | undefined, options: InitOptions, command: Command) =>
      run(command, async (context) =>
        (await import("./commands/init.ts")).init(context, dir, options),
      ),
    );

  const migrate = program
    .command("migrate")
    .description("install the queue in the database, or bring it up to date");

  migrate
    .command("up")
    .description("apply the migrations that are missing")
    .action((_options: unknown, command: Command) =>
      run(command, async (context) => (await import("./commands/migrate.ts")).migrateUp(context)),
    );

  migrate
    .command("status")
    .description("which migrations are applied; exits with 4 when some are missing")
    .action((_options: unknown, command: Command) =>
      run(command, async (context) =>
        (await import("./commands/migrate.ts")).migrateStatus(context),
      ),
    );

  migrate
    .command("sql")
    .description("print the migrations, to apply them by other means; needs no database")
    .action((_options: unknown, command: Command) =>
      run(command, async (context) => (await import("./commands/migrate.ts")).migrateSql(context)),
    );

  program
    .command("doctor")
    .description("check database, schema and workers; exits with 0 well, 1 warnings, 2 faults")
    .option("--fix", "tell what can be repaired after a failover or a restore")
    .option("--yes", "with --fix: repair it")
    .action((options: RepairOptions & { readonly fix?: boolean }, command: Command) =>
      run(command, async (context) =>
        options.fix
          ? (await import("./commands/doctor-fix.ts")).doctorFix(context, options)
          : (await import("./commands/doctor.ts")).doctor(context),
      ),
    );

  program
    .command("bench")
    .description("how fast the queue is on this server, measured in a database of its own")
    .option("--jobs <n>", "jobs to enqueue in bulk and to drain", wholeNumber(1, 1_000_000), 20_000)
    .option("--concurrency <n>", "jobs at a time of the drain", wholeNumber(1, 1_000), 24)
    .option("--one-by-one <n>", "jobs to enqueue one by one", wholeNumber(1, 1_000_000), 2_000)
    .option("--samples <n>", "jobs to measure the latency with", wholeNumber(1, 10_000), 100)
    .action((options: BenchOptions, command: Command) =>
      run(
        command,
        async (context) => (await import("./commands/bench.ts")).bench(context, options),
        {
          stopsItself: true,
        },
      ),
    );
}
