import assert from "node:assert/strict";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { spawnProcess, spawnScript, type TestProcess } from "../support/processes.ts";
import { describeWithDatabase } from "../support/suite.ts";

const FIXTURE = new URL("./smoke.fixture.ts", import.meta.url);
const BIN = fileURLToPath(new URL("../../node_modules/.bin/", import.meta.url));
const FILE = fileURLToPath(FIXTURE);

const RUNTIMES: readonly [string, (url: string) => TestProcess][] = [
  ["Node", (url) => spawnScript(FIXTURE, { args: [url] })],
  [
    "Deno",
    (url) =>
      spawnProcess(`${BIN}deno`, {
        args: [
          "run",
          "--no-check",
          "--cached-only",
          "--allow-env",
          "--allow-net",
          "--allow-read",
          "--allow-sys",
          FILE,
          url,
        ],
      }),
  ],
  ["Bun", (url) => spawnProcess(`${BIN}bun`, { args: ["run", FILE, url] })],
];

describeWithDatabase("one source, three runtimes", (context) => {
  for (const [name, run] of RUNTIMES) {
    it(`does its work on ${name}`, async () => {
      const program = run(context.db.url);

      const { code } = await program.exited;

      assert.equal(code, 0, program.output());
      const line = program.output().trim().split("\n").at(-1) ?? "";
      const { events, ...answer } = JSON.parse(line);
      assert.deepEqual(answer, { sum: 3, moody: "committed", bulk: 9_900 });
      assert.deepEqual(events, ["claimed", "completed", "retried", "snoozed", "started"]);
    });
  }
});
