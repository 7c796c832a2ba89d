/**
 * Runs the test files named as arguments, large ones each in a process of its own, prints what happens and
 * sends a tally to the parent process. Started by test.ts as the leader of a process group, so that
 * everything can be ended at once.
 */
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { testEntries } from "./test-entries.ts";

/** What is sent to the parent. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
  /** `name: reason` of each skipped test or suite. */
  readonly skips: readonly string[];
}

const FILES_AT_ONCE = 3;
const FILE_TIMEOUT_MS = 240_000;

async function runFiles(files: readonly string[]): Promise<Tally> {
  let passed = 0;
  let failed = 0;
  const skips: string[] = [];
  // A failed test may leave a connection open, which must not keep its file alive until the timeout;
  // sessions that a passing test leaves open are found when its database is closed.
  const events = run({
    files: [...files],
    concurrency: FILES_AT_ONCE,
    timeout: FILE_TIMEOUT_MS,
    forceExit: true,
  });
  events.on("test:pass", ({ name, skip, details }) => {
    // A file without tests passes under its own name.
    if (details.type === "suite" || files.includes(name)) return;
    if (skip === undefined) passed += 1;
  });
  events.on("test:pass", ({ name, skip }) => {
    if (skip !== undefined)
      skips.push(typeof skip === "string" && skip ? `${name}: ${skip}` : name);
  });
  events.on("test:fail", ({ details }) => {
    if (details.type !== "suite" || isOwnFailure(details.error)) failed += 1;
  });
  for await (const text of events.compose(new spec())) process.stdout.write(String(text));
  return { passed, failed, skips };
}

/** A suite fails with its tests; only a broken hook is a failure of its own. */
function isOwnFailure(error: Error): boolean {
  return !("failureType" in error && error.failureType === "subtestsFailed");
}

// Whoever reads our output may leave early.
process.stdout.on("error", () => process.exit(1));
const entries = await testEntries(process.argv.slice(2));
try {
  process.send?.(await runFiles(entries.files));
} finally {
  await entries.remove();
}
process.disconnect?.();
