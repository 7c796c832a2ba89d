import assert from "node:assert/strict";
import { it } from "node:test";
import { seedFromEnvironment } from "../support/seed.ts";
import { runFaultCampaign } from "./campaign.ts";

it("whatever fails, no job is lost, doubled or mixed up with another, nobody is stuck, and all comes to rest by itself", async (test) => {
  const report = await runFaultCampaign({
    major: 18,
    seed: seedFromEnvironment(),
    forMs: 12_000,
    pauseMs: 500,
    leaseMs: 1_000,
    bulkPerMinute: 1_500,
    workers: ["connect", "pool", "plain"],
    producers: ["p-connect", "p-pool", "p-sql", "p-shuffled"],
    hasStandby: false,
    // They take longer than a short test has.
    without: ["disk full", "connections used up", "PgBouncer ended and started"],
  });

  test.diagnostic(JSON.stringify(report));
  assert.deepEqual(report.faults, []);
  assert.ok(report.faultsStruck >= 8, `${report.faultsStruck} faults struck`);
  assert.ok(report.acknowledged > 100, `${report.acknowledged} jobs`);
});
