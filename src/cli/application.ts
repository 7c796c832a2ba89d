import { access } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { Queue } from "../client/create-queue.ts";
import type { Implementation } from "../core/implement.ts";
import { CliError } from "./cli-error.ts";
import type { CliContext } from "./context.ts";
import { EXIT } from "./exit-codes.ts";

/** What an application module exports. */
export interface Application {
  /** The path as it was given. */
  readonly path: string;
  /** What `implement` and `implementBatch` make. */
  readonly handlers: readonly Implementation[];
  /** How many jobs of each queue run at a time; `*` stands for all others. */
  readonly queues?: Readonly<Record<string, number>>;
  /** Makes the application's first jobs; called by `millrace dev` before its worker starts. */
  readonly seed?: (queue: Queue) => unknown;
}

/** Loads an application module and checks what it exports. Throws CliError. */
export async function loadApplication({ cwd }: CliContext, path: string): Promise<Application> {
  const file = resolve(cwd, path);
  await access(file).catch(() => {
    throw new CliError({
      code: "APP_NOT_FOUND",
      what: `There is no file ${path}`,
      why: "The argument <app> names the module that exports your job handlers",
      fix: "Give the path of that module, such as jobs/app.ts",
      exitCode: EXIT.usage,
    });
  });
  const module = await load(path, file);
  const { handlers, queues, seed } = module;
  return {
    path,
    handlers: checkHandlers(path, handlers),
    ...(queues !== undefined && { queues: checkQueues(path, queues) }),
    ...(seed !== undefined && { seed: checkSeed(path, seed) }),
  };
}

async function load(path: string, file: string): Promise<Record<string, unknown>> {
  try {
    return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  } catch (cause) {
    if (codeOf(cause) === "ERR_UNKNOWN_FILE_EXTENSION" && /\.[cm]?tsx?$/.test(path)) {
      throw needsTypeScript(path, cause);
    }
    throw new CliError({
      code: "APP_BROKEN",
      what: `${path} can't be loaded: ${cause instanceof Error ? cause.message : String(cause)}`,
      why: placeOf(cause),
      fix: "Mend the module; it must load by itself",
      cause,
    });
  }
}

function needsTypeScript(path: string, cause: unknown): CliError {
  return new CliError({
    code: "APP_NEEDS_TYPESCRIPT",
    what: `This Node (${process.version}) can't run ${path}: it knows no TypeScript`,
    fix: [
      "Use Node 22.18 or newer, Deno or Bun; or load tsx first:",
      `  npm install --save-dev tsx && NODE_OPTIONS="--import tsx" npx millrace …`,
      "or give a module that is compiled to JavaScript",
    ].join("\n"),
    exitCode: EXIT.usage,
    cause,
  });
}

/** The first line of the stack that is not inside of Node or a package: where its author has to look. */
function placeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const line = error.stack
    ?.split("\n")
    .find((one) => one.trim().startsWith("at ") && !/node:|node_modules/.test(one));
  return line?.trim();
}

function checkHandlers(path: string, handlers: unknown): readonly Implementation[] {
  if (!Array.isArray(handlers)) {
    throw wrongExport(
      path,
      handlers === undefined ? "does not export handlers" : "exports handlers that are no array",
    );
  }
  if (handlers.length === 0) throw wrongExport(path, "exports no handlers: the array is empty");
  const types = new Set<string>();
  for (const [index, handler] of handlers.entries()) {
    if (!isImplementation(handler)) {
      throw wrongExport(path, `exports handlers[${index}], which implement() did not make`);
    }
    if (types.has(handler.job.type)) {
      throw wrongExport(path, `exports two handlers for jobs of type ${handler.job.type}`);
    }
    types.add(handler.job.type);
  }
  return handlers as Implementation[];
}

function isImplementation(value: unknown): value is Implementation {
  if (typeof value !== "object" || value === null) return false;
  const { kind, job, handle } = value as Record<string, unknown>;
  return (
    (kind === "single" || kind === "batch") &&
    typeof handle === "function" &&
    typeof (job as { type?: unknown } | undefined)?.type === "string"
  );
}

function checkQueues(path: string, queues: unknown): Readonly<Record<string, number>> {
  const isRight =
    typeof queues === "object" &&
    queues !== null &&
    Object.values(queues).every((share) => Number.isInteger(share) && share > 0);
  if (isRight) return queues as Record<string, number>;
  throw wrongExport(path, 'exports queues that are not like { mail: 20, "*": 5 }');
}

function checkSeed(path: string, seed: unknown): (queue: Queue) => unknown {
  if (typeof seed === "function") return seed as (queue: Queue) => unknown;
  throw wrongExport(path, "exports a seed that is no function");
}

function wrongExport(path: string, fault: string): CliError {
  return new CliError({
    code: "APP_INVALID",
    what: `${path} ${fault}`,
    why: "An application module exports `handlers`, an array of what implement() makes, and optionally `queues` and `seed(queue)`",
    fix: "See docs/cli.md, “Application modules”",
    exitCode: EXIT.usage,
  });
}

function codeOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}
