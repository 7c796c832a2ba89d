import { spawn } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Edit, Mutant } from "./mutant.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** All that tests need; packages are linked. */
const COPIED = ["src", "tests", "scripts", "supabase", "examples", "package.json", "tsconfig.json"];

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

/** Plants the bug in a copy of the repository and runs its tests, until one notices, on one version of Postgres. */
export async function runMutant(mutant: Mutant, postgres: number): Promise<Outcome> {
  const startedAt = Date.now();
  const folder = await mkdtemp(join(tmpdir(), "millrace-mutant-"));
  const outcome = (verdict: Verdict, notes: readonly string[]): Outcome => ({
    name: mutant.name,
    verdict,
    notes,
    ms: Date.now() - startedAt,
  });
  try {
    await copyRepository(folder);
    const misfit = await applyEdits(folder, mutant.edits);
    if (misfit) return outcome("broken", [misfit]);
    for (const test of mutant.tests) {
      const { code, output } = await runTests(folder, test, postgres);
      if (code === 0) continue;
      const failures = failedTests(output);
      return failures.length > 0
        ? outcome("killed", failures)
        : outcome("broken", [output.trim().slice(-1000)]);
    }
    return outcome("survived", []);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function copyRepository(folder: string): Promise<void> {
  for (const name of COPIED) await cp(join(ROOT, name), join(folder, name), { recursive: true });
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
}

/** Says which edit does not fit, if one does not. */
async function applyEdits(folder: string, edits: readonly Edit[]): Promise<string | undefined> {
  for (const { file, from, to, every } of edits) {
    const path = join(folder, await resolveFile(folder, file));
    const text = await readFile(path, "utf8");
    const count = text.split(from).length - 1;
    if (count === 0 || (count > 1 && !every)) return `${file} holds ${count} times: ${from}`;
    await writeFile(
      path,
      text.replaceAll(from, () => to),
    );
  }
  return undefined;
}

/** Migrations are named without the time that their file names begin with. */
async function resolveFile(folder: string, file: string): Promise<string> {
  const prefix = "supabase/migrations/";
  if (!file.startsWith(prefix)) return file;
  const names = await readdir(join(folder, prefix));
  const name = names.find((one) => one.endsWith(`_${file.slice(prefix.length)}`));
  return prefix + (name ?? file.slice(prefix.length));
}

function runTests(
  folder: string,
  test: string,
  postgres: number,
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", "scripts/test.ts", test], {
      cwd: folder,
      env: { ...process.env, MILLRACE_TEST_POSTGRES: String(postgres), NO_COLOR: "1" },
    });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  });
}

/** Names of failed tests, without the suites around them. A migration that does not apply fails no test. */
function failedTests(output: string): string[] {
  const lines = output.split("failing tests:")[1]?.split("\n") ?? [];
  return lines.flatMap((line) => /^✖ (.*?) \(\d[\d.]*ms\)$/.exec(line)?.[1] ?? []).slice(0, 3);
}
