import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAddress, toUrl } from "../../src/db/address.ts";

test("the host of an address is fit for messages", () => {
  assert.equal(
    parseAddress("postgres://me:secret@db.example.com:5433/app").host,
    "db.example.com:5433",
  );
  assert.equal(parseAddress("postgresql://localhost/app").host, "localhost:5432");
});

test("a pooler in transaction mode is known by its port, or by Prisma's habit", () => {
  assert.equal(parseAddress("postgres://h:6543/app").looksPooled, true);
  assert.equal(parseAddress("postgres://h:5432/app").looksPooled, false);
  const address = parseAddress("postgres://h:5432/app?pgbouncer=true&sslmode=require");
  assert.equal(address.looksPooled, true);
  assert.equal(toUrl(address), "postgres://h:5432/app?sslmode=require");
});

test("what is no address is refused without repeating it: it may hold a password", () => {
  for (const wrong of ["", "localhost", "mysql://me:secret@h/app", "postgres//me:secret@h"]) {
    assert.throws(
      () => parseAddress(wrong),
      (error: Error & { code: string }) => {
        assert.equal(error.code, "INVALID_OPTION");
        assert.doesNotMatch(error.message, /secret@h/);
        return true;
      },
    );
  }
});
