import assert from "node:assert/strict";
import { it } from "node:test";
import { spawnScript } from "../support/processes.ts";
import { seedFromEnvironment } from "../support/seed.ts";
import type { CrashOptions, CrashReport } from "./campaign.ts";

it("no job is lost or settled twice though workers are killed and Postgres is restarted", async (test) => {
  const options: CrashOptions = {
    major: 18,
    seed: seedFromEnvironment(),
    kills: 10,
    restarts: 1,
    workers: 2,
    leaseMs: 1000,
    pauseMs: 500,
    backlog: 100,
    drainTimeoutMs: 30_000,
  };
  const campaign = spawnScript(new URL("./campaign.fixture.ts", import.meta.url), {
    env: { CRASH_OPTIONS: JSON.stringify(options) },
  });

  const exit = await campaign.exited;

  assert.equal(exit.code, 0, campaign.output());
  const [last = ""] = campaign.output().trim().split("\n").slice(-1);
  const report = JSON.parse(last) as CrashReport;
  test.diagnostic(last);
  assert.deepEqual(report.faults, []);
  assert.equal(report.kills, 10);
  assert.equal(report.restarts, 1);
});
