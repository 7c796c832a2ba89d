import assert from "node:assert/strict";
import { test } from "node:test";
import { readMigrations } from "../../src/db/migration-files.ts";
import { splitStatements } from "../../src/db/split-statements.ts";

test("semicolons within quotes, comments and bodies end nothing", () => {
  const text = `
    -- a; comment
    select 'a;b', "c;d", E'e\\';f'; /* x; /* nested; */ y; */
    do $$ begin perform 1; end; $$;
    create function f() returns void language plpgsql as $body$ begin; $$ ; $$ end; $body$;
    create function g() returns integer language sql begin atomic select case when true then 1 end; select 2; end;
    select 1 -- the last one has no semicolon
  `;

  const statements = splitStatements(text);

  assert.deepEqual(
    statements.map((statement) => statement.slice(0, 17)),
    [
      "select 'a;b', \"c;",
      "do $$ begin perfo",
      "create function f",
      "create function g",
      "select 1 -- the l",
    ],
  );
});

test("of blanks and comments alone nothing is left", () => {
  assert.deepEqual(splitStatements("  ; -- x\n ; /* y */ ;"), []);
});

test("every statement of our migrations is found whole", async () => {
  for (const { text, name } of await readMigrations()) {
    const statements = splitStatements(text);
    assert.ok(statements.length > 0, name);
    for (const statement of statements) {
      assert.match(
        statement,
        /^(alter|comment|create|do|grant|insert|revoke|select|update)\b/i,
        `${name}: ${statement.slice(0, 60)}`,
      );
      assert.equal((statement.match(/\$\$/g) ?? []).length % 2, 0, name);
    }
  }
});
