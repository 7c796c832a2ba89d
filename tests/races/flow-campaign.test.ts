import assert from "node:assert/strict";
import { it } from "node:test";
import { seedFromEnvironment } from "../support/seed.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { runFlowCampaign } from "./flow-campaign.ts";

describeOnEachServer("eight sessions on the same flows", (context) => {
  it("never deadlock, and leave every child where its parents' ends put it", async (test) => {
    const report = await runFlowCampaign(context.db, {
      seed: seedFromEnvironment(),
      operations: 2_000,
      sessions: 8,
    });

    test.diagnostic(JSON.stringify(report));
    assert.deepEqual([report.deadlocks, report.faults], [0, []]);
  });
});
