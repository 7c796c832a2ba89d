import { type Mutant, migration, PROPERTY, plant, race, sqlTest } from "./mutant.ts";

const RESCUE = migration("rescue");
const DEPENDENCIES = migration("dependencies");
const CONTRACT = migration("contract");
const DEAD_LETTERS = migration("dead_letters");

/** Bugs in the rescuer, the sweep, retention, dependencies and what operators do. */
export const UPKEEP_MUTANTS: readonly Mutant[] = [
  plant(
    "two-step-rescuer",
    "the rescuer reads expired leases and takes them in a second step, whatever happened between",
    RESCUE,
    ["      for update skip locked\n    )) and lease.expires_at < v_now", "    ))"],
    [race("fence")],
  ),
  {
    name: "rescuer-without-expiry",
    bug: "the rescuer takes leases that have not run out",
    edits: [
      { file: RESCUE, from: "where late.expires_at < v_now", to: "where true" },
      { file: RESCUE, from: ")) and lease.expires_at < v_now", to: "))" },
    ],
    tests: [sqlTest("rescue")],
  },
  plant(
    "rescuer-ignores-max-retries",
    "a job that kills its workers is tried for ever",
    RESCUE,
    ["when charge.is_due and lost.attempt > job.max_retries then 'failed'", ""],
    [sqlTest("rescue")],
  ),
  plant(
    "batch-charged",
    "all jobs of a lost batch lose an attempt for the one that killed the worker",
    RESCUE,
    ["charge.is_due as is_charged", "true as is_charged"],
    [sqlTest("rescue")],
  ),
  plant(
    "single-attempt-repeated",
    "a job that may run only once is run again after its batch was lost",
    RESCUE,
    ["when charge.is_due and", "when lost.is_alone and"],
    [sqlTest("rescue")],
  ),
  plant(
    "rescuer-ignores-cancellation",
    "a lost job that somebody cancelled is tried again",
    RESCUE,
    [
      "when exists (select from queue.cancellations as request where request.job_id = lost.job_id) then 'cancelled'",
      "",
    ],
    [sqlTest("rescue")],
  ),
  plant(
    "lost-together-charged",
    "jobs of one worker that were lost together are charged, each for the crash of another",
    RESCUE,
    ["expired.is_only and count(*)", "count(*)"],
    [sqlTest("suspects"), PROPERTY],
  ),
  plant(
    "crash-not-counted",
    "a lost job is not under suspicion",
    RESCUE,
    ["least(verdict.crashes + 1, 32767)", "verdict.crashes"],
    [sqlTest("suspects")],
  ),
  {
    name: "no-sweep",
    bug: "a child that committed just after its parent's end waits for ever",
    edits: [
      {
        file: migration("maintain"),
        from: "v_total := queue.sweep_racing();",
        to: "v_total := 0;",
      },
      { file: CONTRACT, from: "exit when queue.sweep_racing() = 0;", to: "exit;" },
    ],
    tests: [race("dependencies")],
  },
  plant(
    "cascade-missing",
    "children of a failed job wait for ever",
    DEPENDENCIES,
    ["    exit when v_doomed is null;", "    exit;"],
    [sqlTest("dependencies")],
  ),
  plant(
    "cascade-one-level",
    "grandchildren of a failed job wait for ever",
    DEPENDENCIES,
    ["    exit when coalesce(cardinality(p_ids), 0) = 0;", "    exit;"],
    [sqlTest("dependencies")],
  ),
  plant(
    "run-anyway-ignored",
    "a child that should run whatever its parent did is cancelled",
    DEPENDENCIES,
    [
      "gone.run_anyway or ended.status = 'completed' as is_met",
      "ended.status = 'completed' as is_met",
    ],
    [sqlTest("dependencies")],
  ),
  plant(
    "first-parent-frees",
    "a child runs when the first of its parents completed",
    DEPENDENCIES,
    ["where token.id = due.id and token.open_parents <= due.n", "where token.id = due.id"],
    [sqlTest("dependencies")],
  ),
  plant(
    "schedule-forgotten",
    "a freed child runs at once though it was scheduled for later",
    DEPENDENCIES,
    ["from freed where freed.at > v_now", "from freed where false"],
    [sqlTest("dependencies")],
  ),
  plant(
    "redrive-without-budget",
    "a redriven job has no attempts left",
    DEAD_LETTERS,
    [
      "perform queue.put_ready(v_dead.job_id, 0::smallint);",
      "perform queue.put_ready(v_dead.job_id, v_dead.attempts);",
    ],
    [sqlTest("redrive")],
  ),
  plant(
    "dry-run-acts",
    "a dry run redrives",
    DEAD_LETTERS,
    [
      "    if not coalesce(p_dry_run, false) then\n      -- Whoever",
      "    if true then\n      -- Whoever",
    ],
    [sqlTest("redrive")],
  ),
];
