/**
 * Plants known bugs, one at a time, and checks that the tests notice: `npm run mutants [-- names…]`. Exit code 1 when one
 * survives. The list is in docs/testing.md.
 */
import { readFile } from "node:fs/promises";
import { Command } from "commander";
import { MUTANTS } from "./mutants/all.ts";
import type { Mutant } from "./mutants/mutant.ts";
import { type Outcome, runMutant, runTest } from "./mutants/run-mutant.ts";
import { copyRepository, type Workspace } from "./mutants/workspace.ts";

interface Options {
  readonly atOnce: number;
  readonly postgres: number;
  readonly table?: boolean;
}

await new Command("mutants")
  .description("Plants known bugs, one at a time, and checks that the tests notice.")
  .argument("[names...]", "only these")
  .option("--at-once <n>", "how many at a time", Number, 2)
  .option("--postgres <major>", "18 or 15", Number, 18)
  .option("--table", "print the list as Markdown and do nothing")
  .action(main)
  .parseAsync();

async function main(names: readonly string[], options: Options): Promise<void> {
  const chosen = MUTANTS.filter(({ name }) => names.length === 0 || names.includes(name));
  if (options.table) {
    for (const line of table(chosen)) console.log(line);
    return;
  }
  const sound = await copyRepository();
  try {
    const unfit = await failingTests(sound, chosen, options);
    const outcomes: Outcome[] = [];
    await inTurns(chosen, options.atOnce, async (mutant) => {
      const tests = mutant.tests.filter((test) => !unfit.has(test));
      const outcome = await runMutant(sound, { ...mutant, tests }, options.postgres);
      outcomes.push(outcome);
      const { verdict, name, ms, notes } = outcome;
      console.log(`${verdict.padEnd(8)} ${name} (${ms} ms) ${notes[0] ?? ""}`);
    });
    await report(outcomes, names.length === 0);
    for (const test of unfit) console.log(`${test} fails without any bug planted: it told nothing`);
    if (unfit.size > 0) process.exitCode = 1;
  } finally {
    await sound.remove();
  }
}

/** A failure tells something only of a test that passes without the bug. */
async function failingTests(
  sound: Workspace,
  mutants: readonly Mutant[],
  { atOnce, postgres }: Options,
): Promise<Set<string>> {
  const tests = [...new Set(mutants.flatMap((mutant) => mutant.tests))];
  const failing = new Set<string>();
  await inTurns(tests, atOnce, async (test) => {
    const { code } = await runTest(sound.folder, test, postgres);
    if (code !== 0) failing.add(test);
  });
  console.log(`${tests.length - failing.size} of ${tests.length} test files pass without any bug`);
  return failing;
}

async function inTurns<T>(
  items: readonly T[],
  atOnce: number,
  act: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const work = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await act(item);
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

async function report(outcomes: readonly Outcome[], isComplete: boolean): Promise<void> {
  const bad = outcomes.filter(({ verdict }) => verdict !== "killed");
  const missing = isComplete ? await missingInDocs() : [];
  for (const { name, verdict, notes } of bad)
    console.log(`${verdict}: ${name}\n  ${notes.join("\n  ")}`);
  for (const name of missing) console.log(`not in docs/testing.md: ${name}`);
  console.log(`${outcomes.length - bad.length} killed, ${bad.length} not`);
  if (bad.length > 0 || missing.length > 0 || outcomes.length === 0) process.exitCode = 1;
}

async function missingInDocs(): Promise<string[]> {
  const text = await readFile(new URL("../docs/testing.md", import.meta.url), "utf8");
  return MUTANTS.map(({ name }) => name).filter((name) => !text.includes(`\`${name}\``));
}

function table(mutants: readonly Mutant[]): string[] {
  return [
    "| planted bug | what is wrong | caught by |",
    "|---|---|---|",
    ...mutants.map(({ name, bug, tests }) => {
      const files = tests.map(
        (test) => `\`${test.replace(/^tests\//, "").replace(/\.test\.ts$/, "")}\``,
      );
      return `| \`${name}\` | ${bug} | ${files.join(", ")} |`;
    }),
  ];
}
