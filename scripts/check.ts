/** Everything that can be said about the code without running it: `npm run check`. */
import { existsSync } from "node:fs";
import { type CommandResult, ROOT, runScript, runTool } from "./run.ts";

const CHECKS: readonly (readonly [name: string, run: () => Promise<CommandResult>])[] = [
  ["types", () => runTool("tsc", ["-p", "."])],
  ["types of bench", () => runTool("tsc", ["-p", "bench"])],
  [
    "format and lint",
    () =>
      runTool("biome", [
        "ci",
        "--colors=off",
        "--error-on-warnings",
        "--diagnostic-level=warn",
        ".",
      ]),
  ],
  ["import direction", () => runScript("check-imports.ts")],
  ["deno check", () => runTool("deno", ["check", "src/index.ts"], { DENO_NO_UPDATE_CHECK: "1" })],
  ["functions", () => runScript("check-functions.ts")],
  ["dead exports", () => runScript("check-exports.ts")],
  ["file sizes", () => runScript("check-sizes.ts")],
  ["build", () => runScript("build.ts")],
  ["package", () => runTool("publint", ["run", ".", "--strict"])],
];

/** The benchmark is a package of its own, with the peers as its dependencies. */
const isBenchInstalled = existsSync(`${ROOT}bench/node_modules`);

for (const [name, run] of CHECKS) {
  if (name === "types of bench" && !isBenchInstalled && !process.env["CI"]) {
    console.log(`left   ${name}: npm ci --prefix bench`);
    continue;
  }
  const start = performance.now();
  const { ok, output } = await run();
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${ok ? "ok    " : "FAILED"} ${name.padEnd(18)} ${seconds.padStart(5)} s`);
  if (ok) continue;
  console.log(output.trim().replaceAll(/^/gm, "       "));
  process.exitCode = 1;
}
