import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { deadExports, entryFiles } from "../../scripts/check-exports.ts";
import { exportBreaches, pinBreaches } from "../../scripts/check-functions.ts";
import { importBreaches } from "../../scripts/check-imports.ts";
import { parseSource } from "../../scripts/source-files.ts";

describe("the check of import direction", () => {
  it("lets rooms import what stands below them", () => {
    const files = [
      parseSource("src/core/a.ts", "export const a = 1;\n"),
      parseSource("src/worker/b.ts", 'import { a } from "../core/a.ts";\n'),
      parseSource("src/cli/main.ts", 'import "../worker/b.ts";\nimport { x } from "node:fs";\n'),
    ];

    assert.deepEqual(importBreaches(files), []);
  });

  it("finds an import against the direction, over several lines and of types too", () => {
    const file = parseSource("src/core/a.ts", 'import type {\n  B,\n} from "../worker/b.ts";\n');

    assert.deepEqual(importBreaches([file]), [
      "src/core/a.ts: core may not import src/worker/b.ts",
    ]);
  });

  it("finds an import of an entry point, and of what is outside of src", () => {
    const file = parseSource(
      "src/worker/a.ts",
      'import { b } from "../index.ts";\nconst c = await import("../../tests/c.ts");\n',
    );

    assert.deepEqual(importBreaches([file]), [
      "src/worker/a.ts: worker may not import src/index.ts",
      "src/worker/a.ts: worker may not import tests/c.ts",
    ]);
  });

  it("keeps Node's modules out of the library, but for migrations", () => {
    const files = [
      parseSource("src/db/call.ts", 'import { readFile } from "node:fs/promises";\n'),
      parseSource("src/db/migrate.ts", 'import { readFile } from "node:fs/promises";\n'),
    ];

    assert.deepEqual(importBreaches(files), [
      "src/db/call.ts: may not use node:fs/promises: the library runs on every runtime",
    ]);
  });

  it("keeps SQL text in its room, and takes no prose for SQL", () => {
    const files = [
      parseSource("src/worker/a.ts", "const x = sql`\n  select id from queue.jobs`;\n"),
      parseSource(
        "src/worker/b.ts",
        'const x = "update the worker with care, select it from here";\n',
      ),
    ];

    const breaches = importBreaches(files);

    assert.equal(breaches.length, 1);
    assert.match(breaches[0] ?? "", /^src\/worker\/a\.ts: holds SQL text/);
  });

  it("lets two files name each other's types", () => {
    const files = [
      parseSource("src/core/a.ts", 'import type { B } from "./b.ts";\n'),
      parseSource("src/core/b.ts", 'import { a } from "./a.ts";\n'),
    ];

    assert.deepEqual(importBreaches(files), []);
  });

  it("finds a circle", () => {
    const files = [
      parseSource("src/core/a.ts", 'import { b } from "./b.ts";\n'),
      parseSource("src/core/b.ts", 'import { a } from "./a.ts";\n'),
    ];

    assert.deepEqual(importBreaches(files), [
      "src/core/a.ts: imports itself through src/core/b.ts → src/core/a.ts",
    ]);
  });
});

describe("the check of dead exports", () => {
  it("finds what nobody imports", () => {
    const files = [
      parseSource("src/core/a.ts", "export function used() {}\nexport const dead = 1;\n"),
      parseSource("tests/a.test.ts", 'import { used as mine } from "../src/core/a.ts";\n'),
    ];

    assert.deepEqual(deadExports(files, []), ["src/core/a.ts: dead"]);
  });

  it("takes the package's entries and what they pass on for used", () => {
    const files = [
      parseSource("src/core/a.ts", "export class A {}\n"),
      parseSource("src/core/b.ts", "export class B {}\n"),
      parseSource(
        "src/index.ts",
        'export { A } from "./core/a.ts";\nexport * from "./core/b.ts";\nexport const c = 1;\n',
      ),
    ];

    assert.deepEqual(deadExports(files, ["src/index.ts"]), []);
  });

  it("lets a type be a word of its own file's signatures", () => {
    const file = parseSource(
      "src/core/a.ts",
      "export interface Used {}\nexport interface Dead {}\nfunction f(x: Used) {}\n",
    );

    assert.deepEqual(deadExports([file], []), ["src/core/a.ts: Dead"]);
  });

  it("knows the sources behind package.json's entries", () => {
    const entries = entryFiles(
      '{"exports":{".":{"types":"./dist/index.d.ts","default":"./dist/index.js"}}}',
    );

    assert.deepEqual(entries, ["src/index.ts"]);
  });
});

describe("the check of the Edge Functions", () => {
  const packageJson = '{"dependencies":{"postgres":"3.4.9"},"devDependencies":{"zod":"4.6.7"}}';

  it("takes packages of the version that is tested here, and files of the repository", () => {
    const imports = {
      a: "../../../src/a.ts",
      postgres: "npm:postgres@3.4.9",
      zod: "npm:zod@4.6.7",
    };

    assert.deepEqual(pinBreaches(JSON.stringify({ imports }), packageJson), []);
  });

  it("finds another version, none, and what is from elsewhere", () => {
    const imports = { a: "npm:zod@4", b: "npm:zod", c: "npm:left@1.0.0", d: "https://deno.land/x" };

    assert.deepEqual(pinBreaches(JSON.stringify({ imports }), packageJson), [
      "a: npm:zod@4 is not npm:zod@4.6.7",
      "b: npm:zod is not npm:zod@4.6.7",
      "c: npm:left@1.0.0 is not a package of package.json",
      "d: https://deno.land/x is neither a file nor an npm package",
    ]);
  });

  it("finds an import that has no export in the package, or another", () => {
    const imports = {
      "millrace/edge": "../../../src/http/index.ts",
      "millrace/functions": "../../../src/http/functions.ts",
      "millrace/none": "../../../src/none.ts",
      "./own.ts": "./own.ts",
    };
    const exports = {
      "./edge": { default: "./dist/http/index.js" },
      "./functions": { default: "./dist/functions.js" },
    };

    assert.deepEqual(
      exportBreaches(JSON.stringify({ imports }), JSON.stringify({ name: "millrace", exports })),
      [
        "millrace/functions: package.json does not export ../../../src/http/functions.ts",
        "millrace/none: package.json does not export ../../../src/none.ts",
      ],
    );
  });
});
