import type { Command } from "commander";
import type { RunCommand } from "./program.ts";

/** migrate, doctor. */
export function defineDatabaseCommands(program: Command, run: RunCommand): void {
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
    .action((_options: unknown, command: Command) =>
      run(command, async (context) => (await import("./commands/doctor.ts")).doctor(context)),
    );
}
