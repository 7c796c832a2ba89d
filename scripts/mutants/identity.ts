import { type Mutant, migration, plant, sqlTest } from "./mutant.ts";

const CLAIMED_JOBS = migration("claimed_jobs");
const GENERATIONS = migration("generations");

/** Bugs by which a handler, or a settlement, meets another job than its own. */
export const IDENTITY_MUTANTS: readonly Mutant[] = [
  plant(
    "first-id-in-any-order",
    "handlers get the ids of other jobs where neighbours are claimed in descending order",
    CLAIMED_JOBS,
    [
      "v_is_run and v_is_same_order and p_ids = array(select generate_series(v_first, v_last));",
      "v_is_run and v_is_same_order;",
    ],
    [sqlTest("claimed-jobs")],
  ),
  plant(
    "lease-number-given-twice",
    "after a crash a lease gets the number of one that a surviving worker still holds",
    GENERATIONS,
    [
      "when ids.last_value < time.us then time.us",
      "when ids.last_value < time.us then ids.last_value",
    ],
    [sqlTest("generations")],
  ),
  plant(
    "start-of-server-unnoticed",
    "a claim after a crash draws from the sequence as it was left",
    migration("lease"),
    ["  perform queue.ensure_generation();\n", ""],
    [sqlTest("generations")],
  ),
];
