import { type Mutant, migration, plant, race, sqlTest } from "./mutant.ts";

const DEPENDENCIES = migration("dependencies");
const REVIVE = migration("revive");
const SWEEP = migration("sweep");
const LANE_LOOP = "src/worker/lane-loop.ts";

function workerTest(name: string): string {
  return `tests/worker/${name}.test.ts`;
}

/** Bugs in children by the thousand, in flows that come back, and in ends that are not written at the first try. */
export const FLOW_MUTANTS: readonly Mutant[] = [
  plant(
    "children-in-one-go",
    "the end of a parent frees all of its children in one statement, however many they are",
    DEPENDENCIES,
    ["p_budget integer default 1000", "p_budget integer default 100000000"],
    [sqlTest("fanouts")],
  ),
  plant(
    "slice-forgotten",
    "what the first slice left of a parent's children waits for ever",
    DEPENDENCIES,
    ["    if v_is_cut or p_after is not null or v_taken", "    if p_after is not null or v_taken"],
    [sqlTest("fanouts")],
  ),
  plant(
    "cascade-without-bound",
    "a long chain is cancelled in one statement",
    DEPENDENCIES,
    [
      "v_left := v_left - greatest(cardinality(v_children), 20);",
      "v_left := v_left - cardinality(v_children);",
    ],
    [sqlTest("fanouts")],
  ),
  {
    name: "sweep-starves",
    bug: "the sweep looks at the same locked children again and again, and at nothing else",
    edits: [
      { file: DEPENDENCIES, from: "case when kept.goes_on then kept.next else 0 end", to: "0" },
      {
        file: SWEEP,
        from: "order by known.looked_at, known.parent_id",
        to: "order by known.parent_id",
      },
    ],
    tests: [sqlTest("fanouts")],
  },
  plant(
    "cascade-goes-on-after-redrive",
    "children of a parent that runs again are cancelled for its first end",
    REVIVE,
    [
      "  delete from queue.fanouts as fan where fan.parent_id = any (p_ids) and fan.status <> 'completed';\n",
      "",
    ],
    [sqlTest("fanouts"), sqlTest("revive-flow")],
  ),
  plant(
    "end-untold-for-a-key",
    "children of a cancelled job whose key passes on wait for ever",
    migration("keys"),
    [
      "      perform queue.hold_ended(array[v_known]);",
      "      perform queue.hold_ended(array[v_known]), queue.begin_revival(array[v_known]);",
    ],
    [sqlTest("fanouts")],
  ),
  plant(
    "end-untold-beside-another",
    "children of a job that stays cancelled because of its other parent wait for ever",
    REVIVE,
    [
      "    perform queue.hold_ended(v_ids);\n",
      "    perform queue.hold_ended(v_ids);\n    perform queue.begin_revival(v_ids);\n",
    ],
    [sqlTest("fanouts")],
  ),
  plant(
    "revival-unseen",
    "in an older snapshot a cancelled job is run again although somebody has done so",
    REVIVE,
    ["where run.job_id = given.id and run.lease_id = newest.lease_id;", "where false;"],
    [race("isolation")],
  ),
  plant(
    "keys-held-one-by-one",
    "keys that pass on and a redrive of the jobs that had them deadlock",
    migration("keys"),
    ["    perform queue.hold_ended(v_freed);", "    null;"],
    [race("deadlocks")],
  ),
  plant(
    "flow-ignores-other-parents",
    "a child comes back although another of its parents has failed",
    REVIVE,
    ["    exit when v_doomed is null;", "    exit;"],
    [sqlTest("revive-flow")],
  ),
  plant(
    "flow-keeps-its-first-cause",
    "a child of two failed parents does not come back with the second",
    REVIVE,
    ["where last.cause_id <> all (doomed.parent_ids);", "where false;"],
    [sqlTest("revive-flow")],
  ),
  plant(
    "flow-keeps-stale-edges",
    "a child that came back is counted down by a parent that had completed before",
    REVIVE,
    ["  where edge.child_id = any (v_ids) and (edge", "  where false and (edge"],
    [sqlTest("revive-flow")],
  ),
  plant(
    "flow-brings-back-all",
    "a job that was run again by hand is blocked again with its flow",
    REVIVE,
    ["newer.job_id = run.job_id and newer.lease_id > run.lease_id\n      )", "false\n      )"],
    [sqlTest("revive-flow")],
  ),
  plant(
    "busy-end-dropped",
    "an end whose lease somebody else holds is taken for written",
    "src/worker/intake.ts",
    ["if (answer.busy_leases?.includes(lease.id)) {", "if (answer.busy_leases === undefined) {"],
    [workerTest("strangers")],
  ),
  plant(
    "busy-lease-dropped",
    "a handler is stopped because somebody else holds its lease for a moment",
    "src/worker/upkeep.ts",
    [
      "book.missing(leases, [...answer.alive, ...answer.busy])",
      "book.missing(leases, answer.alive)",
    ],
    [workerTest("busy-leases")],
  ),
  plant(
    "busy-lease-for-ever",
    "a worker goes on for ever with a lease that it can't extend",
    "src/worker/lease-book.ts",
    ["Math.min(until, lease.extendedTo + mostMs)", "until"],
    [workerTest("busy-leases")],
  ),
  {
    name: "children-left-to-housekeeping",
    bug: "children that their parent's end left wait for the next round of maintenance",
    edits: [
      { file: LANE_LOOP, from: "if (answer.has_children_left) parts.children.wake();", to: "" },
    ],
    tests: [workerTest("strangers")],
  },
  plant(
    "statement-fault-taken-for-outage",
    "an end that is too slow stops its worker",
    "src/worker/link.ts",
    [" && !isStatementFault(error)", ""],
    [workerTest("slow-ends")],
  ),
  plant(
    "slow-end-not-set-apart",
    "an end that is too slow keeps all others of its batch from being written",
    LANE_LOOP,
    ["if (isAboutData(error) || isStatementFault(error)) await", "if (isAboutData(error)) await"],
    [workerTest("slow-ends")],
  ),
];
