/** What goes into the npm package beside what is built. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { it } from "node:test";
import { promisify } from "node:util";
import { ROOT } from "../../scripts/run.ts";
import { projectFiles } from "../../src/cli/init/template.ts";

it("the package holds every file that millrace init writes, and no tests", async () => {
  const args = ["pack", "--dry-run", "--json", "--ignore-scripts"];
  const { stdout } = await promisify(execFile)("npm", args, { cwd: ROOT });

  const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }];
  const packed = files.map(({ path }) => path);
  const wanted = await projectFiles({ version: "1.0.0", withReferences: true });
  assert.deepEqual(
    wanted.map(({ path }) => path).filter((path) => !packed.includes(path)),
    [],
  );
  assert.deepEqual(
    packed.filter((path) => path.startsWith("supabase/") && path.includes(".test.")),
    [],
  );
});
