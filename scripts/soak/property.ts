import { Command, InvalidArgumentError } from "commander";
import { type CampaignReport, runCampaign } from "../../tests/property/campaign.ts";
import { createTestDatabase } from "../../tests/support/database.ts";
import { randomSeed } from "../../tests/support/seed.ts";
import { startTestServer } from "../../tests/support/server.ts";

interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly postgres: number;
}

export function propertyCommand(): Command {
  return new Command("property")
    .description("Random sequences of all operations, compared with a model after each step.")
    .option("--minutes <n>", "how long", positive, 10)
    .option("--seed <n>", "seed of the first sequence", Number, randomSeed())
    .option("--postgres <major>", "18 or 15", Number, 18)
    .action(run);
}

export function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError("It must be a number above 0.");
  return value;
}

async function run({ minutes, seed, postgres }: Options): Promise<void> {
  console.log(`seed ${seed}, Postgres ${postgres}, ${minutes} minutes`);
  const server = await startTestServer(postgres);
  try {
    const db = await createTestDatabase(server);
    let shownAt = Date.now();
    const onProgress = (report: CampaignReport): void => {
      if (Date.now() - shownAt < 10_000) return;
      shownAt = Date.now();
      console.log(`${report.sequences} sequences, ${report.steps} steps, no difference`);
    };
    const report = await runCampaign(db, { seed, timeLimitMs: minutes * 60_000, onProgress });
    await db.close();
    console.log(JSON.stringify({ campaign: "property", postgres, ...report, differences: 0 }));
  } catch (error) {
    process.exitCode = 1;
    console.error(error instanceof Error ? error.message : error);
    console.log(JSON.stringify({ campaign: "property", postgres, seed, differences: 1 }));
  } finally {
    await server.stop();
  }
}
