import { type Mutant, migration, plant, race, sqlTest } from "./mutant.ts";

const CLAIMED_JOBS = migration("claimed_jobs");
const GENERATIONS = migration("generations");

/** Bugs by which a handler, or a settlement, meets another job than its own. */
export const IDENTITY_MUTANTS: readonly Mutant[] = [
  plant(
    "first-id-in-any-order",
    "handlers get the ids of other jobs where neighbours are claimed in descending order",
    CLAIMED_JOBS,
    ["v_counts_up and v_is_same_order;", "v_is_run and v_is_same_order;"],
    [sqlTest("claimed-jobs"), race("identity")],
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
  plant(
    "cut-claim-keeps-the-rest",
    "what does not fit into an answer stays leased to a worker that never hears of it",
    migration("advance"),
    [
      "v_ids[v_many.o_count + 1:], v_claim.o_attempts",
      "v_ids[cardinality(v_ids) + 1:], v_claim.o_attempts",
    ],
    [sqlTest("claim-bytes")],
  ),
  plant(
    "cut-claim-skips-the-rest",
    "what went back lies before the mark, and the next claim goes on behind it",
    migration("advance"),
    [
      "if p_per_tenant is null then\n          v_mark := '{}';",
      "if false then\n          v_mark := '{}';",
    ],
    [sqlTest("claim-bytes")],
  ),
  plant(
    "results-of-a-lease-mixed-up",
    "results of jobs that end together are stored under each other",
    "src/worker/settlement-text.ts",
    [
      "for (const { elapsedMs, resultText } of attempts) {",
      "for (const { elapsedMs, resultText } of [...attempts].reverse()) {",
    ],
    ["tests/crash/crash.test.ts"],
  ),
  plant(
    "note-of-a-neighbour",
    "what a handler notes is kept with the attempt that was claimed beside it",
    "src/worker/job-context.ts",
    [
      "this.#attempt.noteText = text;",
      "(this.#attempt.lease.attempts[0] ?? this.#attempt).noteText = text;",
    ],
    ["tests/crash/crash.test.ts"],
  ),
];
