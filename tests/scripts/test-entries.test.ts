import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { pathToFileURL } from "node:url";
import { testEntries } from "../../scripts/test-entries.ts";

const LARGE = `it("is large");${" ".repeat(40_000)}`;
const FILES: readonly (readonly [string, string])[] = [
  ["edge/one", ""],
  ["edge/two", ""],
  ["sql/a", ""],
  ["sql/b", ""],
  ["sql/hooks", "import 'x';\nafterEach(() => undefined);"],
  ["sql/large", LARGE],
  ["worker/c", ""],
  ["worker/d", "  beforeEach(() => undefined);"],
];

it("small files of a folder share an entry, not those with outer hooks, nor what looks at processes; those that take long come first", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-entries-test-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const paths = FILES.map(([name]) => join(folder, `${name}.test.ts`));
  for (const name of ["edge", "sql", "worker"]) await mkdir(join(folder, name));
  for (const [index, path] of paths.entries()) await writeFile(path, FILES[index]?.[1] ?? "");

  const entries = await testEntries(paths);
  t.after(() => entries.remove());

  const held = await Promise.all(
    entries.files.map(async (file) => {
      const at = paths.indexOf(file);
      if (at >= 0) return [FILES[at]?.[0]];
      const text = await readFile(file, "utf8");
      return FILES.map(([name]) => name).filter((_, index) =>
        text.includes(pathToFileURL(paths[index] ?? "").href),
      );
    }),
  );
  assert.deepEqual(held, [
    ["worker/c", "worker/d"],
    ["edge/one"],
    ["edge/two"],
    ["sql/a", "sql/b"],
    ["sql/hooks"],
    ["sql/large"],
  ]);
  const shared = entries.files.filter((file) => !paths.includes(file));
  await entries.remove();
  assert.deepEqual(shared.map(existsSync), [false, false]);
});
