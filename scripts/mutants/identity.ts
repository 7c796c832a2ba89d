import { type Mutant, migration, plant, sqlTest } from "./mutant.ts";

const CLAIMED_JOBS = migration("claimed_jobs");

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
];
