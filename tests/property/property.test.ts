import { it } from "node:test";
import { seedFromEnvironment } from "../support/seed.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { runCampaign } from "./campaign.ts";

const TIME_LIMIT_MS = 12_000;

describeOnEachServer("random sequences of all operations", (context) => {
  it("do to the queue what they do to a model of it", async (test) => {
    const report = await runCampaign(context.db, {
      seed: seedFromEnvironment(),
      timeLimitMs: TIME_LIMIT_MS,
    });

    test.diagnostic(`${report.sequences} sequences, ${report.steps} steps, seed ${report.seed}`);
  });
});
