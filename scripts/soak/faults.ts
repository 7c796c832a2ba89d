import { writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { Command } from "commander";
import { type FaultReport, runFaultCampaign } from "../../tests/faults/campaign.ts";
import { randomSeed } from "../../tests/support/seed.ts";
import { positive } from "./property.ts";

interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly postgres: number;
  readonly pause: number;
  readonly bulk: number;
  readonly standby: boolean;
  readonly without: readonly string[];
  readonly verbose?: boolean;
  readonly report?: string;
}

export function faultsCommand(): Command {
  return new Command("faults")
    .description(
      "Everything fails at random: processes, connections, poolers, servers, disks; then all must come to rest by itself, and is counted.",
    )
    .option("--minutes <n>", "how long faults happen", positive, 30)
    .option("--seed <n>", "seed of jobs and faults", Number, randomSeed())
    .option("--postgres <major>", "18 or 15", Number, 18)
    .option("--pause <ms>", "mean time between two faults", positive, 2_200)
    .option("--bulk <n>", "jobs a minute that do nothing", positive, 3_000)
    .option("--no-standby", "one server, no failovers")
    .option(
      "--without <kinds...>",
      "kinds of faults that are left out, by their names in the table",
      [],
    )
    .option("--verbose", "print each fault as it comes")
    .option("--report <file>", "where to write the report as JSON, besides printing it")
    .action(run);
}

async function run({ minutes, seed, postgres, report: file, ...options }: Options): Promise<void> {
  console.log(`seed ${seed}, Postgres ${postgres}, ${minutes} minutes`);
  const report = await runFaultCampaign({
    major: postgres,
    seed,
    forMs: minutes * 60_000,
    pauseMs: options.pause,
    leaseMs: 3_000,
    bulkPerMinute: options.bulk,
    hasStandby: options.standby,
    without: options.without,
    onProgress: (line) => {
      if (options.verbose || !line.includes("fault ") || /fault \d*0:/.test(line)) {
        console.log(line);
      }
    },
  });
  const machine = `${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GB; Node ${process.version}`;
  const text = JSON.stringify({ campaign: "faults", machine, ...report }, null, 2);
  console.log(text);
  console.log(table(report));
  if (file !== undefined) await writeFile(file, `${text}\n`);
  if (report.faults.length > 0) process.exitCode = 1;
}

function table({ byKind, faultsStruck }: FaultReport): string {
  const rows = Object.entries(byKind).map(([kind, count]) => `| ${kind} | ${count} |`);
  return ["", "| fault | times |", "|---|--:|", ...rows, `| all | ${faultsStruck} |`, ""].join(
    "\n",
  );
}
