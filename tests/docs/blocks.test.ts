/** No block of README and docs/ is without a test: who adds one of another kind is told here. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { placeOf, readBlocks } from "./blocks.ts";

const STATUSES = "blocked scheduled pending processing completed failed cancelled".split(" ");

/** What runs or checks the blocks of each language. */
const CHECKED: Readonly<Record<string, string>> = {
  ts: "typescript.test.ts: types; README's application runs",
  sql: "sql.test.ts: every block runs",
  sh: "shell.test.ts: names and options",
  json: "json.test.ts, and the tests of the commands that print it",
  mermaid: "below",
  text: "figures and what a terminal shows",
};

it("every block of code is of a language that a test here runs or checks", async () => {
  const blocks = await readBlocks();

  assert.deepEqual(blocks.filter(({ language }) => !(language in CHECKED)).map(placeOf), []);
  for (const language of Object.keys(CHECKED)) {
    assert.ok(
      blocks.some((one) => one.language === language),
      language,
    );
  }
});

it("figures of states name statuses", async () => {
  for (const block of await readBlocks()) {
    if (block.language !== "mermaid") continue;
    const arrows = [...block.code.matchAll(/^ *(\S+) --> (\w+|\[\*\])/gm)];
    assert.ok(arrows.length > 10, placeOf(block));
    for (const [, from = "", to = ""] of arrows) {
      for (const name of [from, to]) {
        if (name !== "[*]") assert.ok(STATUSES.includes(name), name);
      }
    }
  }
});
