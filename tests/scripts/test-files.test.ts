import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { it } from "node:test";
import { fileURLToPath } from "node:url";

const RUNNER = fileURLToPath(new URL("../../scripts/test-files.ts", import.meta.url));
const EVERY_OUTCOME = fileURLToPath(new URL("./every-outcome.fixture.ts", import.meta.url));

it("the runner counts tests, broken hooks and skips, but not suites that fail with a test", async () => {
  const child = fork(RUNNER, [EVERY_OUTCOME], {
    silent: true,
    execArgv: ["--import", "tsx"],
    // The runner's own tests must not report to the runner that runs us.
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  });

  const tally = await new Promise((resolve) => child.once("message", resolve));

  assert.deepEqual(tally, {
    passed: 2,
    // Two that fail, the broken hook, and the test it took along.
    failed: 4,
    skips: ["is skipped: needs Debian package one", "a skipped suite: needs Debian package two"],
  });
});
