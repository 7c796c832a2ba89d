import assert from "node:assert/strict";
import { it } from "node:test";
import { seedFromEnvironment } from "../support/seed.ts";
import { runCrashCampaign } from "./campaign.ts";

it("no job is lost or settled twice though workers are killed and Postgres is restarted", async (test) => {
  const report = await runCrashCampaign({
    major: 18,
    seed: seedFromEnvironment(),
    kills: 10,
    restarts: 1,
    workers: 2,
    leaseMs: 1000,
    pauseMs: 500,
    backlog: 100,
    drainTimeoutMs: 30_000,
  });

  test.diagnostic(JSON.stringify(report));
  assert.deepEqual(report.faults, []);
  assert.equal(report.kills, 10);
  assert.equal(report.restarts, 1);
});
