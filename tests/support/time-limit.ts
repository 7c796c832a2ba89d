/**
 * Loaded before each test file: gives every test a time limit, because the runner of Node 20 knows one for files only. A test that runs out
 * of it fails, and what it waited for is printed: calls of `eventually`, gates, and what the sessions of its database do.
 */
import { createRequire, syncBuiltinESMExports } from "node:module";
import type { TestFn, TestOptions } from "node:test";
import { describeWaits } from "./waits.ts";

type Define = (name?: unknown, options?: unknown, run?: unknown) => unknown;

/** Tests that need longer name a `timeout` of their own. */
const LIMIT_MS = Number(process.env["MILLRACE_TEST_LIMIT_MS"] ?? 100_000);
/** Before the limit, so that what is waited for is still there. */
const TELL_MS = 2_000;

const runner = createRequire(import.meta.url)("node:test") as Record<"it" | "test", Define>;
for (const kind of ["it", "test"] as const) {
  const define = runner[kind];
  runner[kind] = Object.assign((...args: unknown[]) => {
    const run = args.find((arg) => typeof arg === "function") as TestFn | undefined;
    const options = args.find((arg) => typeof arg === "object" && arg !== null) as
      | TestOptions
      | undefined;
    const name = typeof args[0] === "string" ? args[0] : (run?.name ?? "");
    const timeout = options?.timeout ?? LIMIT_MS;
    return define(name, { ...options, timeout }, run && watched(name, run, timeout));
  }, define);
}
syncBuiltinESMExports();

/** The same test; shortly before its time is over it tells what it waits for. */
function watched(name: string, run: TestFn, timeoutMs: number): TestFn {
  // With a second parameter it would be a test that ends with a callback.
  if (run.length > 1) return run;
  return async function (this: unknown, context) {
    const tell = async (): Promise<void> => {
      const lines = await describeWaits();
      const list = lines.length > 0 ? lines : ["nothing that is known"];
      console.error(`"${name}" is about to run out of time. It waits for:`);
      for (const line of list) console.error(`  ${line}`);
    };
    const timer = setTimeout(() => void tell(), Math.max(0, timeoutMs - TELL_MS));
    try {
      await (run as (this: unknown, context: unknown) => unknown).call(this, context);
    } finally {
      clearTimeout(timer);
    }
  };
}
