import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Block, ROOT, readBlocks } from "./blocks.ts";

/** What pages leave out because it is the reader's. */
const READERS = `
import type { SupabaseClient } from "@supabase/supabase-js";
import type { createQueueWorker as makeWorker, QueueWorkerOptions } from "millrace/edge";
import type { jobFunction as makeFunction, SenderAccess } from "millrace/functions";

declare global {
  const Deno: { readonly env: { get(name: string): string | undefined } };
  const supabase: SupabaseClient;
  const createQueueWorker: typeof makeWorker;
  const jobFunction: typeof makeFunction;
  const options: QueueWorkerOptions;
  const access: SenderAccess;
  function show(progress: unknown): void;
  function reload(id: string): void;
}
`;

/** The mailer that README's worker imports. It prints what it sends. */
const MAIL = `
export async function mail(to: string, { idempotencyKey }: { signal: AbortSignal; idempotencyKey: string }): Promise<void> {
  console.log("mail to " + to + " " + idempotencyKey);
}
`;

const TSCONFIG = {
  compilerOptions: {
    target: "es2023",
    lib: ["es2023", "esnext.disposable", "dom", "dom.iterable"],
    module: "nodenext",
    moduleResolution: "nodenext",
    types: ["node"],
    strict: true,
    allowImportingTsExtensions: true,
    noEmit: true,
    skipLibCheck: true,
    paths: {
      millrace: [`${ROOT}src/index.ts`],
      "millrace/db/postgres-js": [`${ROOT}src/db/postgres-js.ts`],
      "millrace/edge": [`${ROOT}src/http/index.ts`],
      "millrace/functions": [`${ROOT}src/http/functions.ts`],
    },
  },
  include: ["**/*.ts"],
};

/** A folder with every TypeScript block of a page in a file of its own. */
export interface TypeScriptProject {
  readonly folder: string;
  readonly tsconfig: string;
  /** The file of each block, from the folder, and where the block stands. */
  readonly files: ReadonlyMap<string, string>;
  remove(): Promise<void>;
}

export async function makeTypeScriptProject(): Promise<TypeScriptProject> {
  const folder = await mkdtemp(join(tmpdir(), `millrace-test-${process.pid}-docs-`));
  const write = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  };
  await symlink(`${ROOT}node_modules`, join(folder, "node_modules"));
  await write("package.json", '{ "type": "module" }\n');
  await write("tsconfig.json", JSON.stringify(TSCONFIG));
  await write("readers.d.ts", READERS);
  const files = new Map<string, string>();
  const blocks = (await readBlocks()).filter(({ language }) => language === "ts");
  const jobs = blocks.find((block) => nameOf(block) === "jobs.ts");
  for (const block of blocks) {
    const page = block.page.replace(/\.md$/, "");
    const path = `${page}/${nameOf(block)}`;
    files.set(path, `${block.page}:${block.line}`);
    // One without imports would share its names with all others.
    await write(path, `${block.code}export {};\n`);
    await write(`${page}/mail.ts`, MAIL);
    if (jobs) await write(`${page}/jobs.ts`, jobs.code);
  }
  return {
    folder,
    tsconfig: join(folder, "tsconfig.json"),
    files,
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

/** As its first line says, where it says so. */
function nameOf({ code, line }: Block): string {
  const [, name = `block-${line}.ts`] = /^\/\/ ([\w-]+\.ts)\b/.exec(code) ?? [];
  return name;
}
