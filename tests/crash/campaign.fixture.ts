/**
 * The crash campaign in a process of its own; prints its report as the last line. Its producer uses a client of postgres.js as
 * applications do, which can throw from a timer of its own when a connection breaks. A test runner takes that for a failed test.
 */
import process from "node:process";
import { isDriverFault } from "../../src/db/postgres-js.ts";
import { type CrashOptions, runCrashCampaign } from "./campaign.ts";

process.on("uncaughtException", (error: unknown, origin) => {
  if (isDriverFault(error)) return;
  console.error(origin, error);
  process.exit(1);
});

const options = JSON.parse(process.env["CRASH_OPTIONS"] ?? "{}") as CrashOptions;
console.log(JSON.stringify(await runCrashCampaign(options)));
process.exit(0);
