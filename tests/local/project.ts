import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { findDeno } from "../../src/local/deno.ts";
import type { FunctionEvent } from "../../src/local/function-host.ts";
import {
  type FunctionsServer,
  type FunctionsServerOptions,
  startFunctionsServer,
} from "../../src/local/functions-server.ts";
import { localKeys } from "../../src/local/keys.ts";

/** A folder with functions in it, removed by `remove`. */
export interface Project {
  readonly dir: string;
  /** Writes files below `supabase/functions/`, or elsewhere in the project if the path begins with `/`. */
  write(files: Readonly<Record<string, string>>): Promise<void>;
  remove(path?: string): Promise<void>;
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** A project with the packages of this repository installed, so that its functions fetch nothing. */
export async function makeProject(files: Readonly<Record<string, string>> = {}): Promise<Project> {
  const dir = await mkdtemp(join(tmpdir(), "millrace-local-"));
  await symlink(join(ROOT, "node_modules"), join(dir, "node_modules"));
  const pathOf = (path: string): string =>
    path.startsWith("/") ? join(dir, path) : join(dir, "supabase", "functions", path);
  const project: Project = {
    dir,
    async write(more) {
      for (const [path, text] of Object.entries(more)) {
        await mkdir(dirname(pathOf(path)), { recursive: true });
        await writeFile(pathOf(path), text);
      }
    },
    remove: (path = "/") => rm(pathOf(path), { recursive: true, force: true }),
  };
  await project.write(files);
  return project;
}

/** Served functions and all that happened to them. */
export interface Served extends FunctionsServer {
  readonly events: readonly FunctionEvent[];
  /** What a function has logged, both streams. */
  log(name: string): string;
  pid(name: string): number | undefined;
}

export async function serve(
  project: Project,
  options: Partial<FunctionsServerOptions> = {},
): Promise<Served> {
  const events: FunctionEvent[] = [];
  const server = await startFunctionsServer({
    projectDir: project.dir,
    deno: await findDeno({ projectDir: project.dir, env: process.env }),
    keys: await localKeys(join(project.dir, ".millrace")),
    databaseUrl: "postgres://someone:secret@127.0.0.1:1/none",
    env: process.env,
    port: 0,
    onEvent: (event) => void events.push(event),
    ...options,
  });
  return {
    ...server,
    events,
    log: (name) =>
      events
        .map((one) => (one.kind === "log" && one.name === name ? `${one.line}\n` : ""))
        .join(""),
    pid(name) {
      const started = events.filter((one) => one.kind === "started" && one.name === name).at(-1);
      return started?.kind === "started" ? started.pid : undefined;
    },
  };
}
