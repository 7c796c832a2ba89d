/**
 * Runs the tests on every Postgres version that this machine has: `npm test [-- files…]`. Then the core of them runs once more, through
 * PgBouncer in transaction mode; `MILLRACE_TEST_POOLER=0` leaves that out, `1` runs nothing else.
 *
 * Files or folders may be named; else all of tests/ runs. The last line says `N passed, N failed`.
 * With CI=true a skipped test counts as failed.
 */
import { fork } from "node:child_process";
import { readdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { MAJORS, missingMajor } from "../tests/support/majors.ts";
import { pgbouncerMissing } from "../tests/support/pgbouncer.ts";
import { type OwnServer, removeLeftovers, startTestServer } from "../tests/support/server.ts";
import { POOLER_CHOICE, toEnvironment } from "../tests/support/server-environment.ts";
import { startServerPooler } from "../tests/support/server-pooler.ts";
import { pooledFiles } from "./pooled-files.ts";
import type { Tally } from "./test-files.ts";

const TESTS = fileURLToPath(new URL("../tests/", import.meta.url));
const TEST_FILES = fileURLToPath(new URL("./test-files.ts", import.meta.url));
const TIME_LIMIT = new URL("../tests/support/time-limit.ts", import.meta.url).href;

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => stop.abort(signal));
  }
  // Whoever reads our output may leave early; the servers must be stopped all the same.
  process.stdout.on("error", () => stop.abort("a closed pipe"));
  const named = process.argv.slice(2);
  const files = (await Promise.all((named.length > 0 ? named : [TESTS]).map(testFiles))).flat();
  await removeLeftovers();
  const servers = await startServers();
  try {
    const tallies: (Tally | undefined)[] = [];
    if (POOLER_CHOICE !== "pooled") {
      tallies.push(await runGroup(files, toEnvironment(servers), stop.signal));
    }
    const pooled = POOLER_CHOICE === "pooled" ? files : pooledFiles(files);
    if (POOLER_CHOICE !== "direct" && pooled.length > 0 && !stop.signal.aborted) {
      tallies.push(await runPooled(pooled, servers, stop.signal));
    }
    return report(tallies, stop.signal);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    await removeLeftovers();
  }
}

/** Test files of a folder and its sub-folders, or the one file itself. */
async function testFiles(path: string): Promise<string[]> {
  const absolute = resolve(path);
  if ((await stat(absolute)).isFile()) return [absolute];
  const names = await readdir(absolute, { recursive: true });
  return names
    .filter((name) => name.endsWith(".test.ts"))
    .sort()
    .map((name) => join(absolute, name));
}

async function startServers(): Promise<OwnServer[]> {
  const majors = MAJORS.filter((major) => missingMajor(major) === undefined);
  const attempts = await Promise.allSettled(majors.map((major) => startTestServer(major)));
  const servers = attempts.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  for (const attempt of attempts) {
    if (attempt.status === "fulfilled") continue;
    await Promise.all(servers.map((server) => server.stop()));
    throw attempt.reason;
  }
  return servers;
}

/** Runs files through one pooler in front of the newest server. */
async function runPooled(
  files: string[],
  servers: readonly OwnServer[],
  signal: AbortSignal,
): Promise<Tally | undefined> {
  const [newest] = servers;
  if (pgbouncerMissing || !newest) {
    const reason = pgbouncerMissing || "needs a server";
    return { passed: 0, failed: 0, skips: [`the core suite through PgBouncer: ${reason}`] };
  }
  const pooler = await startServerPooler(newest);
  try {
    console.log("\nThrough PgBouncer in transaction mode:\n");
    return await runGroup(files, toEnvironment(servers, pooler), signal);
  } finally {
    await pooler.stop();
  }
}

/** Undefined when the tests were stopped or broke off before they could count. */
function runGroup(
  files: string[],
  environment: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Tally | undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((done) => {
    let tally: Tally | undefined;
    const child = fork(TEST_FILES, files, {
      // The processes of test files inherit it.
      execArgv: [...process.execArgv, "--import", TIME_LIMIT],
      // A group of its own: Ctrl-C reaches us alone, and we end the group after it.
      detached: true,
      env: { ...process.env, ...environment },
    });
    const endGroup = (): void => {
      if (child.pid === undefined) return;
      try {
        process.kill(process.platform === "win32" ? child.pid : -child.pid, "SIGKILL");
      } catch {
        // Nobody is left in it.
      }
    };
    signal.addEventListener("abort", endGroup, { once: true });
    child.on("message", (message) => {
      // Sent by test-files.ts alone.
      tally = message as Tally;
    });
    child.once("close", () => {
      endGroup();
      done(tally);
    });
  });
}

function report(tallies: readonly (Tally | undefined)[], stop: AbortSignal): number {
  const counted = tallies.filter((tally) => tally !== undefined);
  if (counted.length < tallies.length || stop.aborted) {
    console.log(stop.aborted ? `stopped by ${String(stop.reason)}` : "the tests broke off");
    console.log("0 passed, 1 failed");
    return stop.aborted ? 130 : 1;
  }
  const passed = counted.reduce((sum, tally) => sum + tally.passed, 0);
  const failed = counted.reduce((sum, tally) => sum + tally.failed, 0);
  const skips = counted.flatMap((tally) => tally.skips);
  const strict = process.env["CI"] === "true" && skips.length > 0;
  for (const skip of skips) console.log(`skipped: ${skip}`);
  if (strict) console.log("a skipped test counts as failed when CI=true");
  const allFailed = failed + (strict ? skips.length : 0);
  console.log(`${passed} passed, ${allFailed} failed`);
  return allFailed > 0 || passed === 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error);
  console.log("0 passed, 1 failed");
  process.exitCode = 1;
}
