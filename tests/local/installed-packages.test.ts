import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { packageArguments } from "../../src/local/installed-packages.ts";

const MANUAL = ["--node-modules-dir=manual"];
let root = "";
let config = "";
before(async () => {
  root = await mkdtemp(join(tmpdir(), "millrace-packages-"));
  const folder = join(root, "supabase", "functions", "one");
  await mkdir(folder, { recursive: true });
  config = join(folder, "deno.json");
  for (const [name, version] of [
    ["postgres", "3.4.9"],
    ["@acme/mail", "1.2.0-rc.1"],
  ] as const) {
    await mkdir(join(root, "node_modules", name), { recursive: true });
    await writeFile(
      join(root, "node_modules", name, "package.json"),
      JSON.stringify({ name, version }),
    );
  }
});
after(() => rm(root, { recursive: true, force: true }));

async function argumentsFor(imports: Readonly<Record<string, string>>): Promise<readonly string[]> {
  await writeFile(config, JSON.stringify({ imports }));
  return packageArguments(config);
}

test("packages that the project has in just these versions are taken from there", async () => {
  assert.deepEqual(await argumentsFor({ postgres: "npm:postgres@3.4.9" }), MANUAL);
  assert.deepEqual(
    await argumentsFor({ a: "npm:@acme/mail@1.2.0-rc.1/client", b: "./b.ts" }),
    MANUAL,
  );
});

test("if one is missing, of another version, or of a range, Deno fetches all", async () => {
  const postgres = "npm:postgres@3.4.9";
  assert.deepEqual(await argumentsFor({ postgres, zod: "npm:zod@4.6.7" }), []);
  assert.deepEqual(await argumentsFor({ postgres: "npm:postgres@3.4.8" }), []);
  assert.deepEqual(await argumentsFor({ postgres: "npm:postgres@^3.4.9" }), []);
  assert.deepEqual(await argumentsFor({ postgres: "npm:postgres" }), []);
});

test("a configuration without packages, or one that can't be read, needs nothing", async () => {
  assert.deepEqual(await argumentsFor({ own: "./own.ts" }), []);
  await writeFile(config, "{ // a comment");
  assert.deepEqual(await packageArguments(config), []);
  assert.deepEqual(await packageArguments(join(root, "none.json")), []);
});
