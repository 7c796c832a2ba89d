import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { it } from "node:test";
import { fileURLToPath } from "node:url";

const RUNNER = fileURLToPath(new URL("../../scripts/test-files.ts", import.meta.url));
const EVERY_OUTCOME = fileURLToPath(new URL("./every-outcome.fixture.ts", import.meta.url));
const HANGS = fileURLToPath(new URL("./hangs.fixture.ts", import.meta.url));
const TIME_LIMIT = new URL("../support/time-limit.ts", import.meta.url).href;

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

it("a test that hangs fails, says what it waited for, and lets the next one run", async () => {
  const child = fork(RUNNER, [HANGS], {
    silent: true,
    execArgv: ["--import", "tsx", "--import", TIME_LIMIT],
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, MILLRACE_TEST_LIMIT_MS: "2500" },
  });
  let output = "";
  child.stdout?.on("data", (chunk) => {
    output += chunk;
  });
  const printed = new Promise((resolve) => child.once("close", resolve));

  const tally = await new Promise((resolve) => child.once("message", resolve));
  await printed;

  assert.deepEqual(tally, { passed: 1, failed: 1, skips: [] });
  assert.match(
    output,
    /"hangs" is about to run out of time. It waits for:\n {2}.*Date\.now\(\) ?< ?0/,
  );
});
