import assert from "node:assert/strict";
import { test } from "node:test";
import { type ClaimedColumns, toRows } from "../../src/db/claimed-jobs.ts";

const COLUMNS: ClaimedColumns = {
  first: null,
  ids: ["7", "3"],
  leases: ["90"],
  attempts: [1],
  fact_ids: ["3", "7"],
  payloads: [{ three: true }, { seven: true }],
  types: [1],
  queues: [4, 5],
  tenants: [0, 8],
  priorities: [0],
  max_retries: [3],
  created: [30, 70],
  scheduled: null,
  options: null,
  with_options: null,
  type_names: { 1: "mail" },
  queue_names: { 4: "four", 5: "five" },
  tenant_names: { 8: "acme" },
};

test("columns become rows in the order to run them, whatever the order of their facts", () => {
  assert.deepEqual(toRows(COLUMNS), [
    ["90", "7", "mail", "five", "critical", { seven: true }, "acme", 1, 3, 70, null, null],
    ["90", "3", "mail", "four", "critical", { three: true }, null, 1, 3, 30, null, null],
  ]);
});

test("a column of several values has one for each job, one of a single value stands for all", () => {
  const rows = toRows({ ...COLUMNS, leases: ["90", "91"], attempts: [2, 1], scheduled: [5, null] });

  assert.deepEqual(
    rows.map((row) => [row[0], row[7], row[10]]),
    [
      ["90", 2, null],
      ["91", 1, 5],
    ],
  );
});

test("options belong to the jobs that have some", () => {
  const rows = toRows({ ...COLUMNS, options: [{ timeout_ms: 9 }], with_options: ["3"] });

  assert.deepEqual(
    rows.map((row) => row[11]),
    [null, { timeout_ms: 9 }],
  );
});

test("a job without facts is left out, and no jobs are no rows", () => {
  const { payloads, created, ...others } = COLUMNS;
  const rows = toRows({
    ...others,
    fact_ids: ["3"],
    payloads: payloads.slice(0, 1),
    created: created.slice(0, 1),
  });

  assert.deepEqual(
    rows.map((row) => row[1]),
    ["3"],
  );
  assert.deepEqual(toRows(null), []);
});

test("ids that follow on each other are told by the first, beyond what a number holds too", () => {
  const first = "9007199254740993";
  const rows = toRows({ ...COLUMNS, first, ids: null, fact_ids: null });

  assert.deepEqual(
    rows.map((row) => [row[1], row[5]]),
    [
      [first, { three: true }],
      ["9007199254740994", { seven: true }],
    ],
  );
});

test("without ids of their own facts are in the order of the jobs", () => {
  const rows = toRows({ ...COLUMNS, fact_ids: null });

  assert.deepEqual(
    rows.map((row) => [row[1], row[5]]),
    [
      ["7", { three: true }],
      ["3", { seven: true }],
    ],
  );
});
