import { writeFile } from "node:fs/promises";
import { Command } from "commander";
import { runIsolateCampaign } from "../../tests/isolates/campaign.ts";
import { randomSeed } from "../../tests/support/seed.ts";
import { positive } from "./property.ts";

interface Options {
  readonly kills: number;
  readonly jobs: number;
  readonly isolates: number;
  readonly seed: number;
  readonly postgres: number;
  readonly report?: string;
}

export function isolatesCommand(): Command {
  return new Command("isolates")
    .description("kill -9 of Edge isolates that send jobs to functions; then every job is counted.")
    .option("--kills <n>", "isolates killed at random moments", positive, 100)
    .option("--jobs <n>", "jobs to be sent", positive, 5_000)
    .option("--isolates <n>", "isolates at a time", positive, 3)
    .option("--seed <n>", "seed of the moments", Number, randomSeed())
    .option("--postgres <major>", "18 or 15", Number, 18)
    .option("--report <file>", "where to write the report as JSON, besides printing it")
    .action(run);
}

async function run({ postgres, report: file, ...options }: Options): Promise<void> {
  console.log(`seed ${options.seed}, Postgres ${postgres}`);
  const report = await runIsolateCampaign({
    ...options,
    major: postgres,
    lifeMs: 6_000,
    answerMs: 40,
    tickMs: 1_000,
    drainTimeoutMs: 900_000,
    onProgress: (line) => console.log(line),
  });
  const text = JSON.stringify({ campaign: "isolates", ...report }, null, 2);
  console.log(text);
  if (file !== undefined) await writeFile(file, `${text}\n`);
  if (report.faults.length > 0) process.exitCode = 1;
}
