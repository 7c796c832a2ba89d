import { Command } from "commander";
import { runFlowCampaign } from "../../tests/races/flow-campaign.ts";
import { createTestDatabase } from "../../tests/support/database.ts";
import { randomSeed } from "../../tests/support/seed.ts";
import { startTestServer } from "../../tests/support/server.ts";
import { positive } from "./property.ts";

interface Options {
  readonly operations: number;
  readonly sessions: number;
  readonly seed: number;
  readonly postgres: number;
}

export function deadlocksCommand(): Command {
  return new Command("deadlocks")
    .description(
      "Sessions that do everything to the same flows; then every child is compared with its parents.",
    )
    .option("--operations <n>", "how many calls in all", positive, 100_000)
    .option("--sessions <n>", "sessions at a time", positive, 8)
    .option("--seed <n>", "seed of the calls", Number, randomSeed())
    .option("--postgres <major>", "18 or 15", Number, 18)
    .action(run);
}

async function run({ postgres, ...options }: Options): Promise<void> {
  console.log(`seed ${options.seed}, Postgres ${postgres}`);
  const server = await startTestServer(postgres);
  try {
    const db = await createTestDatabase(server);
    let shownAt = Date.now();
    const report = await runFlowCampaign(db, {
      ...options,
      onProgress: (done) => {
        if (Date.now() - shownAt < 10_000) return;
        shownAt = Date.now();
        console.log(`${done} operations`);
      },
    });
    await db.close();
    console.log(JSON.stringify({ campaign: "deadlocks", postgres, ...report }, null, 2));
    if (report.deadlocks > 0 || report.faults.length > 0) process.exitCode = 1;
  } finally {
    await server.stop();
  }
}
