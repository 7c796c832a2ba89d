/** The addresses that docs/ names are understood as it says. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { parseAddress } from "../../src/db/address.ts";
import { connect } from "../../src/db/postgres-js.ts";
import { readPages } from "./blocks.ts";

async function pageAt(path: string): Promise<string> {
  return (await readPages()).find((page) => page.path === path)?.text ?? "";
}

it("every address in docs/ can be read", async () => {
  const found = (await readPages()).flatMap(({ path, text }) =>
    [...text.matchAll(/`(postgres(?:ql)?:\/\/[^`…]+)`/g)].map(([, url = ""]) => ({ path, url })),
  );

  assert.ok(found.length >= 4, JSON.stringify(found));
  for (const { path, url } of found) {
    const { database, servers } = parseAddress(url);
    assert.ok(database, `${path}: ${url}`);
    assert.ok(servers.length > 0);
  }
});

it("docs/connections.md names every sslmode, the escapes, and what means a pooler", async () => {
  const text = await pageAt("docs/connections.md");
  const [, modes = ""] = /`sslmode`: (.*)/.exec(text) ?? [];
  const named = [...modes.matchAll(/`([\w-]+)`/g)].map(([, mode]) => mode);
  assert.deepEqual(named, ["disable", "prefer", "require", "verify-ca", "verify-full"]);
  for (const mode of named) parseAddress(`postgres://me@h/app?sslmode=${mode}`);

  const [, plain = "", escaped = ""] = /\(`(@[^`]*)`\) are written as `(%[^`]*)`/.exec(text) ?? [];
  const escapes = escaped.split(" ");
  assert.equal(escapes.length, plain.split(" ").length);
  for (const [index, character] of plain.split(" ").entries()) {
    assert.equal(
      parseAddress(`postgres://me:a${escapes[index]}b@h/app`).password,
      `a${character}b`,
    );
  }

  assert.match(text, /`pgbouncer=true`, port 6543 and Neon's\s+pooler mean a pooler/);
  for (const url of [
    "postgres://me@h/app?pgbouncer=true",
    "postgres://me@h:6543/app",
    "postgres://me@ep-a-b-pooler.eu-central-1.aws.neon.tech/app",
  ]) {
    assert.equal(parseAddress(url).looksPooled, true, url);
  }
});

it("docs/connections.md says how certificates are given", async () => {
  assert.match(
    await pageAt("docs/connections.md"),
    /`connect\(url, \{ tls: \{ ca, cert, key \} \}\)`/,
  );
  const [ca, cert, key] = ["ca", "cert", "key"];
  const sql = connect("postgres://me@h/app?sslmode=verify-full", { tls: { ca, cert, key } });
  await sql.close();
});
