import { join, resolve } from "node:path";
import { CliError, usageError } from "../cli-error.ts";
import type { CliContext, CommandResult } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import { withFunctionSections } from "../init/config-toml.ts";
import { type NextStep, nextSteps } from "../init/next-steps.ts";
import { type FileState, type PlannedFile, planFiles, readText, writeFiles } from "../init/plan.ts";
import { projectFiles, referenceFunctions, WORKER } from "../init/template.ts";
import { countOf } from "../output/words.ts";
import { packageVersion } from "../package-version.ts";

export interface InitOptions {
  readonly supabase?: true;
  readonly functions?: true;
  readonly force?: true;
  readonly dryRun?: true;
}

const CONFIG = "supabase/config.toml";

interface Plan {
  readonly files: readonly PlannedFile[];
  /** Functions whose section in the configuration was missing. */
  readonly added: readonly string[];
  /** Functions that would get only calls with a JWT. */
  readonly verifying: readonly string[];
}

/** Writes the queue's migrations and its worker's function into a Supabase project. Exits with 1 when a file is there that differs. */
export async function init(
  context: CliContext,
  dir: string | undefined,
  options: InitOptions,
): CommandResult {
  if (!options.supabase) {
    throw usageError("It must be said what for", "Run: millrace init --supabase");
  }
  const projectDir = resolve(context.cwd, dir ?? ".");
  const references = options.functions ? await referenceFunctions() : [];
  const plan = await planProject(projectDir, references, options);
  if (!options.dryRun) await writeFiles(projectDir, plan.files);
  const steps = nextSteps(references);
  if (context.isJson) {
    context.terminal.json({
      project: projectDir,
      dry_run: options.dryRun === true,
      files: plan.files.map(({ path, state }) => ({ path, state })),
      verifying_jwt: plan.verifying,
      next: steps,
    });
  } else {
    tell(context, plan, { steps, projectDir, isDry: options.dryRun === true });
  }
  const isDone =
    plan.verifying.length === 0 && plan.files.every(({ state }) => state !== "differs");
  return isDone ? EXIT.ok : EXIT.failure;
}

async function planProject(
  projectDir: string,
  references: readonly string[],
  { force }: InitOptions,
): Promise<Plan> {
  const toml = await readText(join(projectDir, CONFIG));
  if (toml === undefined) {
    throw new CliError({
      code: "NO_SUPABASE_PROJECT",
      what: `There is no ${CONFIG} in ${projectDir}`,
      why: "The queue's files go into a Supabase project",
      fix: "Run: npx supabase init, or name the project's folder: millrace init --supabase <dir>",
    });
  }
  const wanted = await projectFiles({
    version: packageVersion(),
    withReferences: references.length > 0,
  });
  const files = await planFiles(projectDir, wanted, { mayReplace: force === true });
  const { text, added, verifying } = withFunctionSections(toml, [WORKER, ...references]);
  const state: FileState = added.length > 0 ? "appended" : "unchanged";
  return { files: [...files, { path: CONFIG, text, state }], added, verifying };
}

function tell(
  { terminal }: CliContext,
  { files, added, verifying }: Plan,
  { steps, projectDir, isDry }: { steps: readonly NextStep[]; projectDir: string; isDry: boolean },
): void {
  const { style } = terminal;
  for (const [folder, state, count] of grouped(files)) {
    const done = DONE[state];
    const words = isDry && state !== "unchanged" ? `would be ${done}` : done;
    terminal.line(`${style("good", "✓")} ${folder}: ${countOf(count, "file")} ${words}`);
  }
  for (const name of added) {
    const words = isDry ? "would be appended" : "appended";
    terminal.line(`${style("good", "✓")} ${CONFIG}: [functions.${name}] ${words}`);
  }
  for (const { path } of files.filter(({ state }) => state === "differs")) {
    terminal.line(`${style("bad", "✗")} ${path} differs, and was left; --force replaces it`);
  }
  for (const name of verifying) {
    terminal.line(
      `${style("bad", "✗")} ${CONFIG}: verify_jwt = false is missing in [functions.${name}]; it was left`,
    );
  }
  terminal.line();
  terminal.line(`What comes next, in ${projectDir}:`);
  steps.forEach(({ title, commands }, at) => {
    terminal.line();
    terminal.line(style("strong", `${at + 1}. ${title}`));
    terminal.lines(commands.map((command) => command.replaceAll(/^/gm, "   ")));
  });
}

const DONE = { created: "created", replaced: "replaced", unchanged: "there already" } as const;

/** How many files of each folder are created, replaced or there; in the order of the files. */
function grouped(files: readonly PlannedFile[]): [string, keyof typeof DONE, number][] {
  const groups = new Map<string, [string, keyof typeof DONE, number]>();
  for (const { path, state } of files) {
    if (path === CONFIG || !(state in DONE)) continue;
    const folder = path.slice(0, path.lastIndexOf("/"));
    const known = state as keyof typeof DONE;
    const group = groups.get(`${folder} ${state}`) ?? [folder, known, 0];
    group[2] += 1;
    groups.set(`${folder} ${state}`, group);
  }
  return [...groups.values()];
}
