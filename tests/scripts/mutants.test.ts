import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { MUTANTS } from "../../scripts/mutants/all.ts";
import { misfit } from "../../scripts/mutants/workspace.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

it("every planted bug fits the sources, so that the campaign still plants it", async () => {
  const misfits = await Promise.all(MUTANTS.map(({ edits }) => misfit(edits)));

  assert.deepEqual(
    misfits.filter((found) => found !== undefined),
    [],
  );
});

it("planted bugs have names of their own, and tests that are there", () => {
  const names = MUTANTS.map(({ name }) => name);

  assert.deepEqual(names.length, new Set(names).size);
  assert.deepEqual(
    MUTANTS.flatMap(({ tests }) => tests).filter((test) => !existsSync(ROOT + test)),
    [],
  );
});
