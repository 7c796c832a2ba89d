import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Edit } from "./mutant.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** All that tests need; packages are linked. */
const COPIED = [
  ..."src tests scripts supabase examples docs package.json tsconfig.json".split(" "),
  ..."README.md CONTRIBUTING.md bench/README.md".split(" "),
];
const MIGRATIONS = "supabase/migrations/";

/** A copy of the repository in which bugs may be planted. */
export interface Workspace {
  readonly folder: string;
  /** Another copy, of this one as it is. */
  copy(): Promise<Workspace>;
  /** Says which edit does not fit, if one does not. */
  apply(edits: readonly Edit[]): Promise<string | undefined>;
  remove(): Promise<void>;
}

export function copyRepository(): Promise<Workspace> {
  return copyOf(ROOT);
}

async function copyOf(source: string): Promise<Workspace> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-mutant-"));
  for (const name of COPIED) await cp(join(source, name), join(folder, name), { recursive: true });
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
  return {
    folder,
    copy: () => copyOf(folder),
    apply: (edits) => applyEdits(folder, edits),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

async function applyEdits(folder: string, edits: readonly Edit[]): Promise<string | undefined> {
  const edited = await editedTexts(folder, edits);
  if (typeof edited === "string") return edited;
  for (const [path, text] of edited) await writeFile(path, text);
  return undefined;
}

/** Says which edit does not fit the repository as it is, if one does not. */
export async function misfit(edits: readonly Edit[]): Promise<string | undefined> {
  const edited = await editedTexts(ROOT, edits);
  return typeof edited === "string" ? edited : undefined;
}

/** The new text of each file, or which edit does not fit. */
async function editedTexts(
  folder: string,
  edits: readonly Edit[],
): Promise<ReadonlyMap<string, string> | string> {
  const texts = new Map<string, string>();
  for (const { file, from, to, every } of edits) {
    const path = join(folder, await resolveFile(folder, file));
    const text = texts.get(path) ?? (await readFile(path, "utf8").catch(() => ""));
    const count = text.split(from).length - 1;
    if (count === 0 || (count > 1 && !every)) return `${file} holds ${count} times: ${from}`;
    texts.set(
      path,
      text.replaceAll(from, () => to),
    );
  }
  return texts;
}

/** Migrations are named without the time that their file names begin with. */
async function resolveFile(folder: string, file: string): Promise<string> {
  if (!file.startsWith(MIGRATIONS)) return file;
  const names = await readdir(join(folder, MIGRATIONS));
  return MIGRATIONS + names.find((name) => name.endsWith(`_${file.slice(MIGRATIONS.length)}`));
}
