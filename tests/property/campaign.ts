import fc from "fast-check";
import type { TestDatabase } from "../support/database.ts";
import { claimNextJob, getNextJob } from "./commands/claim.ts";
import type { Steps } from "./commands/command.ts";
import { enqueueMany, enqueueOne, sleep } from "./commands/enqueue.ts";
import { advance, extendLeases, forgetLeases, reportProgress } from "./commands/lease.ts";
import { cancelJob, pauseQueue, purgeJobs, redriveJobs, retryJob } from "./commands/operate.ts";
import { completeJob, failJob, settleOne, settleUnheld } from "./commands/settle.ts";
import { cleanup, maintain, passDays, passTime } from "./commands/upkeep.ts";
import { Model } from "./model.ts";
import { createWorld } from "./world.ts";

const STEPS_PER_RUN = 80;

export interface CampaignOptions {
  /** Seed of the first sequence; each further one counts up. */
  readonly seed: number;
  readonly timeLimitMs: number;
  readonly onProgress?: (report: CampaignReport) => void;
}

export interface CampaignReport {
  readonly seed: number;
  readonly sequences: number;
  readonly steps: number;
  readonly ms: number;
}

/** Each kind of step as often as it is likely. */
const STEPS: readonly (readonly [times: number, step: Steps])[] = [
  [5, enqueueOne],
  [4, enqueueMany],
  [3, sleep],
  [5, getNextJob],
  [2, claimNextJob],
  [6, advance],
  [2, completeJob],
  [3, failJob],
  [1, settleUnheld],
  [3, settleOne],
  [2, extendLeases],
  [1, forgetLeases],
  [1, reportProgress],
  [3, cancelJob],
  [3, retryJob],
  [2, redriveJobs],
  [1, purgeJobs],
  [2, pauseQueue],
  [4, passTime],
  [1, passDays],
  [2, cleanup],
  [2, maintain],
];

/**
 * Plays random sequences against the database and the model until the time is over. Throws for the first difference,
 * with the shortest sequence that shows it and its seed.
 */
export async function runCampaign(
  db: TestDatabase,
  options: CampaignOptions,
): Promise<CampaignReport> {
  const world = await createWorld(db);
  const startedAt = Date.now();
  const sequences = fc.commands<Model, typeof world, false>(
    STEPS.flatMap(([times, step]) => Array.from({ length: times }, () => step)),
    { maxCommands: STEPS_PER_RUN, size: "max" },
  );
  const property = fc.asyncProperty(sequences, (steps) =>
    fc.asyncModelRun(async () => {
      await world.reset();
      await world.signIn();
      return { model: new Model(await world.now()), real: world };
    }, steps),
  );
  let played = 0;
  const report = (): CampaignReport => ({
    seed: options.seed,
    sequences: played,
    steps: world.steps,
    ms: Date.now() - startedAt,
  });
  while (Date.now() - startedAt < options.timeLimitMs) {
    await fc.assert(property, {
      seed: options.seed + played,
      numRuns: 1,
      includeErrorInReport: true,
      skipAllAfterTimeLimit: Math.max(options.timeLimitMs, 120_000),
    });
    played += 1;
    options.onProgress?.(report());
  }
  return report();
}
