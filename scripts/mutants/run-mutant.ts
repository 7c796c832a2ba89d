import { spawn } from "node:child_process";
import type { Mutant } from "./mutant.ts";
import type { Workspace } from "./workspace.ts";

/**
 * killed: a test failed. survived: all passed. broken: the edit does not fit the sources, or nothing was tested with it.
 */
export type Verdict = "killed" | "survived" | "broken";

export interface Outcome {
  readonly name: string;
  readonly verdict: Verdict;
  /** The first tests that failed, or why it is broken. */
  readonly notes: readonly string[];
  readonly ms: number;
}

/** Plants the bug in a copy and runs its tests, until one notices, on one version of Postgres. */
export async function runMutant(
  sound: Workspace,
  mutant: Mutant,
  postgres: number,
): Promise<Outcome> {
  const startedAt = Date.now();
  const sick = await sound.copy();
  const outcome = (verdict: Verdict, notes: readonly string[]): Outcome => ({
    name: mutant.name,
    verdict,
    notes,
    ms: Date.now() - startedAt,
  });
  try {
    const misfit = await sick.apply(mutant.edits);
    if (misfit) return outcome("broken", [misfit]);
    for (const test of mutant.tests) {
      const { code, output } = await runTest(sick.folder, test, postgres);
      if (code === 0) continue;
      const failures = failedTests(output);
      return failures.length > 0
        ? outcome("killed", failures)
        : outcome("broken", [output.trim().slice(-1000)]);
    }
    return outcome("survived", []);
  } finally {
    await sick.remove();
  }
}

/** Runs a test file in that folder, without a pooler between. */
export function runTest(
  folder: string,
  test: string,
  postgres: number,
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", "scripts/test.ts", test], {
      cwd: folder,
      env: {
        ...process.env,
        MILLRACE_TEST_POSTGRES: String(postgres),
        MILLRACE_TEST_POOLER: "0",
        NO_COLOR: "1",
      },
    });
    let output = "";
    const collect = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  });
}

/** Names of failed tests, without the suites around them. A migration that does not apply fails no test. */
function failedTests(output: string): string[] {
  const lines = output.split("failing tests:")[1]?.split("\n") ?? [];
  return lines.flatMap((line) => /^✖ (.*?) \(\d[\d.]*ms\)$/.exec(line)?.[1] ?? []).slice(0, 3);
}
