/**
 * Small test files share a process: to start one and to load the sources costs as much processor time as running most of them.
 * So a test file leaves nothing behind in its process. One with hooks outside of suites, which would be hooks of all, is started alone.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

/** The most source text of files that share a process. */
const MOST_CHARACTERS = 40_000;
const OUTER_HOOK = /^(?:before|after)(?:Each)?\(/m;
/** Folders whose files look at processes, or are processes themselves. */
const APART: ReadonlySet<string> = new Set([
  "crash",
  "edge",
  "embedded",
  "faults",
  "isolates",
  "local",
]);

/** The folder whose entries take the longest, because they wait: begun last, they would keep the whole run waiting. */
const FIRST = "worker";

export interface TestEntries {
  /** What the test runner is to start, each in a process of its own. */
  readonly files: readonly string[];
  remove(): Promise<void>;
}

/** Puts neighbours of one folder together, in their order, as long as they are small. Those that take the longest come first. */
export async function testEntries(files: readonly string[]): Promise<TestEntries> {
  // Named so that the next run removes it if this one is killed.
  const folder = await mkdtemp(join(tmpdir(), `millrace-test-${process.pid}-entries-`));
  const groups = await groupBySize(files.toSorted((a, b) => rank(a) - rank(b)));
  const entries = await Promise.all(
    groups.map(async (group, index) => {
      const [first] = group;
      if (group.length === 1 && first !== undefined) return first;
      const entry = join(folder, `${basename(dirname(first ?? ""))}-${index}.test.mjs`);
      const imports = group.map((file) => `import ${JSON.stringify(pathToFileURL(file).href)};\n`);
      await writeFile(entry, imports.join(""));
      return entry;
    }),
  );
  return { files: entries, remove: () => rm(folder, { recursive: true, force: true }) };
}

function rank(file: string): number {
  return basename(dirname(file)) === FIRST ? 0 : 1;
}

async function groupBySize(files: readonly string[]): Promise<string[][]> {
  const groups: string[][] = [];
  let folder = "";
  let characters = 0;
  for (const file of files) {
    const text = await readFile(file, "utf8");
    const isApart = APART.has(basename(dirname(file))) || OUTER_HOOK.test(text);
    characters += text.length;
    const group = groups.at(-1);
    if (group && !isApart && dirname(file) === folder && characters <= MOST_CHARACTERS) {
      group.push(file);
    } else {
      groups.push([file]);
      folder = isApart ? "" : dirname(file);
      characters = text.length;
    }
  }
  return groups;
}
