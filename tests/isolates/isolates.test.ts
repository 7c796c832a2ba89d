import assert from "node:assert/strict";
import { it } from "node:test";
import { seedFromEnvironment } from "../support/seed.ts";
import { runIsolateCampaign } from "./campaign.ts";

it("every job ends once though isolates are killed, and none waits longer than its lease and a tick", async (test) => {
  const report = await runIsolateCampaign({
    major: 18,
    seed: seedFromEnvironment(),
    jobs: 300,
    kills: 4,
    isolates: 2,
    lifeMs: 4_000,
    answerMs: 400,
    tickMs: 500,
    drainTimeoutMs: 40_000,
  });

  test.diagnostic(JSON.stringify(report));
  assert.deepEqual(report.faults, []);
  assert.equal(report.kills, 4);
  assert.ok(report.lost > 0);
});
