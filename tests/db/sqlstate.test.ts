import assert from "node:assert/strict";
import { after, before, it, test } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import {
  isAboutData,
  isConnectionUseless,
  isTransient,
  translateError,
} from "../../src/db/sqlstate.ts";
import { describeWithDatabase } from "../support/suite.ts";

function raised(code: string, message = "m"): Error {
  return Object.assign(new Error(message), { code, severity: "ERROR" });
}

test("connection trouble is told apart from trouble with a statement", () => {
  const codes = ["ECONNREFUSED", "CONNECTION_CLOSED", "57P01", "08006", "25006", "53300"];
  for (const code of codes) {
    const error = translateError(raised(code), "h:1") as { code: string };
    assert.equal(error.code, "DATABASE_UNREACHABLE", code);
    assert.equal(isTransient(error), true);
  }
  assert.equal(isTransient(translateError(raised("40P01"), "h")), true);
  assert.equal(isTransient(translateError(raised("22P02"), "h")), false);
  assert.equal(isAboutData(translateError(raised("22P02"), "h")), true);
  assert.equal(isAboutData(translateError(raised("42501"), "h")), false);
});

test("a quota that is used up is told by its own class, with when to try again", () => {
  const refused = Object.assign(raised("MR016", "quota exceeded"), { hint: "Try again in 5 s." });
  const error = translateError(refused, "h:1") as { code: string; hint?: string };

  assert.deepEqual([error.code, error.hint], ["QUOTA_EXCEEDED", "Try again in 5 s."]);
  assert.equal(isAboutData(error), false);
});

test("what a pooler says of itself is trouble with the connection", () => {
  const refused = { code: "08P01", severity_local: "FATAL" };
  const error = translateError(Object.assign(new Error("no such database: x"), refused), "h:1");

  assert.equal((error as { code: string }).code, "DATABASE_UNREACHABLE");
  assert.equal((error as Error).message, "Cannot reach the database at h:1: no such database: x");
});

test("errors that don't come from the database stay what they are", () => {
  const own = new TypeError("own");

  assert.equal(translateError(own, "h"), own);
  assert.equal(translateError("text", "h"), "text");
  assert.equal(translateError(undefined, "h"), undefined);
});

describeWithDatabase("errors that the queue raises", (context) => {
  let sql: Sql;
  before(() => {
    sql = connect(context.db.url);
  });
  after(() => sql.close());

  const cases: [string, Record<string, unknown>][] = [
    ["select public.enqueue_job('')", { code: "INVALID_OPTION", option: "type" }],
    [
      "select public.enqueue_job('a', p_priority => 'urgent')",
      { code: "INVALID_OPTION", option: "priority" },
    ],
    [
      "select public.enqueue_job('a', p_max_retries => -1)",
      { code: "INVALID_OPTION", option: "maxRetries" },
    ],
    [
      "select public.enqueue_job('a', p_options => '{\"x\":1}')",
      { code: "INVALID_OPTION", option: "options" },
    ],
    ["select public.enqueue_job('a', p_depends_on => '{999}')", { code: "INVALID_DEPENDENCY" }],
    ["select public.pause_queue('nowhere')", { code: "UNKNOWN_QUEUE" }],
    ["select queue.no_such_function()", { code: "SCHEMA_VERSION" }],
  ];
  for (const [statement, expected] of cases) {
    it(`are told by class: ${statement}`, async () => {
      await assert.rejects(sql.query(statement), expected);
    });
  }

  it("carry a hint how to mend them", async () => {
    await assert.rejects(
      sql.query("select public.enqueue_job('a', p_priority => 'urgent')"),
      (error: { hint?: string }) => {
        assert.ok(error.hint);
        return true;
      },
    );
  });
});

test("an error by which a server or pooler ends the session is the connection's fault, whatever its code", () => {
  for (const severity of [
    { severity: "FATAL" },
    { severity_local: "FATAL" },
    { severity: "PANIC" },
  ]) {
    for (const code of ["XX000", "08006", "57P01", "53300", "55000", "P0001"]) {
      const closed = Object.assign(new Error("Database connection closed"), { code, ...severity });
      const error = translateError(closed, "h:1");
      assert.equal((error as { code: string }).code, "DATABASE_UNREACHABLE", code);
      assert.equal(isAboutData(error), false);
      assert.equal(isTransient(error), true);
    }
  }
  // What a statement did is told with another severity, and may be the fault of what was sent.
  assert.equal(isAboutData(translateError(raised("XX000"), "h:1")), true);
});

test("what the server refuses a session for does not pass by waiting, and is not about the data", () => {
  for (const code of ["42704", "22023"]) {
    const refused = { code, severity: "FATAL", message: 'unrecognized parameter "x"' };
    const error = translateError(refused, "h:1");
    assert.equal((error as { code: string }).code, "SQL_ERROR");
    assert.equal(isTransient(error), false);
    assert.equal(isAboutData(error), false);
  }
});

test("a standby is an outage, by whatever it shows", () => {
  for (const told of [
    { code: "25006", message: "cannot execute INSERT in a read-only transaction" },
    { code: "0A000", message: "cannot access temporary or unlogged relations during recovery" },
    { code: "0A000", message: "Zugriff nicht möglich", routine: "get_relation_info" },
    { code: "55000", message: "recovery is in progress", routine: "pg_current_wal_lsn" },
  ]) {
    const error = translateError({ severity: "ERROR", ...told }, "h:1");
    assert.equal((error as { code: string }).code, "DATABASE_UNREACHABLE");
    assert.equal(isConnectionUseless(error), true);
  }
  const other = translateError(raised("0A000", "not yet"), "h:1");
  assert.equal((other as { code: string }).code, "SQL_ERROR");
  assert.equal(isConnectionUseless(other), false);
});
