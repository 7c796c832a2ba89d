import assert from "node:assert/strict";
import { after, before, it, test } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { isAboutData, isTransient, translateError } from "../../src/db/sqlstate.ts";
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
