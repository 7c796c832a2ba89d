/**
 * Long campaigns against a throw-away Postgres: `npm run soak -- property --minutes 10`, `npm run soak -- crash`,
 * `npm run soak -- isolates`, `npm run soak -- deadlocks`, `npm run soak -- faults`.
 * Each prints its seed and a report; the exit code is 1 when it found a fault. What they prove is in docs/testing.md.
 */
import { Command } from "commander";
import { crashCommand } from "./soak/crash.ts";
import { deadlocksCommand } from "./soak/deadlocks.ts";
import { faultsCommand } from "./soak/faults.ts";
import { isolatesCommand } from "./soak/isolates.ts";
import { propertyCommand } from "./soak/property.ts";

await new Command("soak")
  .description("Long campaigns against a throw-away Postgres.")
  .addCommand(propertyCommand())
  .addCommand(crashCommand())
  .addCommand(isolatesCommand())
  .addCommand(deadlocksCommand())
  .addCommand(faultsCommand())
  .parseAsync();
