import { writeFile } from "node:fs/promises";
import process from "node:process";
import { Command } from "commander";
import { isDriverFault } from "../../src/db/postgres-js.ts";
import { runCrashCampaign } from "../../tests/crash/campaign.ts";
import { randomSeed } from "../../tests/support/seed.ts";
import { positive } from "./property.ts";

interface Options {
  readonly kills: number;
  readonly restarts: number;
  readonly workers: number;
  readonly seed: number;
  readonly postgres: number;
  readonly report?: string;
}

export function crashCommand(): Command {
  return new Command("crash")
    .description(
      "kill -9 of workers and immediate restarts of Postgres under load; then every job is counted.",
    )
    .option("--kills <n>", "kill -9 of workers", positive, 200)
    .option("--restarts <n>", "immediate restarts of Postgres", Number, 20)
    .option(
      "--workers <n>",
      "worker processes of the library; one plain SQL caller comes on top",
      positive,
      3,
    )
    .option("--seed <n>", "seed of plans and faults", Number, randomSeed())
    .option("--postgres <major>", "18 or 15", Number, 18)
    .option("--report <file>", "where to write the report as JSON, besides printing it")
    .action(run);
}

async function run({ postgres, report: file, ...options }: Options): Promise<void> {
  console.log(`seed ${options.seed}, Postgres ${postgres}`);
  // The producer's own driver may throw where nobody can catch it.
  process.on("uncaughtException", (error: unknown) => {
    if (isDriverFault(error)) return;
    console.error(error);
    process.exit(1);
  });
  const report = await runCrashCampaign({
    ...options,
    major: postgres,
    leaseMs: 1500,
    pauseMs: 1800,
    backlog: 400,
    drainTimeoutMs: 120_000,
    onProgress: (line) => console.log(line),
  });
  const text = JSON.stringify({ campaign: "crash", ...report }, null, 2);
  console.log(text);
  if (file !== undefined) await writeFile(file, `${text}\n`);
  if (report.faults.length > 0) process.exitCode = 1;
}
