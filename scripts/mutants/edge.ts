import { type Mutant, migration, plant, sqlTest } from "./mutant.ts";

const HANDOVER = migration("handover");
const SHARE = migration("share");
const ROUTES = migration("routes");
const RUN = "src/http/run.ts";
const WORKER = "src/http/queue-worker.ts";
const RUNS = "tests/http/queue-worker.test.ts";
const CALLS = "tests/http/called-functions.test.ts";

/** Bugs in the worker that is called over HTTP, and in what it hands over. */
export const EDGE_MUTANTS: readonly Mutant[] = [
  plant(
    "text-answer-tried-again",
    "a function that answers OK is called again, although its work is done",
    "src/http/answer-result.ts",
    [
      "if (!saysJson && !mayBeJson) return asText(text);",
      'if (!saysJson && !mayBeJson) throw new Error("no JSON");',
    ],
    ["tests/http/answers.test.ts"],
  ),
  plant(
    "long-answer-fails",
    "an answer of which JSON gets too long fails its job, although its work is done",
    "src/http/answer-result.ts",
    ["if (over <= 0) return kept;", "return kept;"],
    ["tests/http/answers.test.ts"],
  ),
  plant(
    "handed-over-not-its-own",
    "a job that was handed over stays in its worker's lease as well",
    HANDOVER,
    ["      where part.job_id <> p_job_id\n", ""],
    [sqlTest("handover")],
  ),
  plant(
    "handed-over-forgotten",
    "a worker that comes back from an outage releases the jobs it handed over",
    migration("own_leases"),
    [
      "lease.id = any (p_lease_ids) and lease.worker_id = p_worker and not lease.is_handed_over",
      "lease.id = any (p_lease_ids) and lease.worker_id = p_worker",
    ],
    [sqlTest("handover")],
  ),
  plant(
    "handed-over-not-charged",
    "a function that never reports costs no attempt, and its job runs for ever",
    migration("rescue"),
    ["returning lease.*, lease.is_handed_over or not exists (", "returning lease.*, not exists ("],
    [sqlTest("handover")],
  ),
  plant(
    "report-of-nobody",
    "a report for a lease that was handed over looks for the job under the old one",
    HANDOVER,
    ["coalesce(v_passed.lease_id, p_lease_id)", "p_lease_id"],
    [CALLS],
  ),
  plant(
    "reports-count-as-run-time",
    "a function that reports after an hour keeps its type from being begun",
    ROUTES,
    [" and last.note -> 'is_handed_over' is null", ""],
    [CALLS],
  ),
  plant(
    "cancel-not-heard",
    "a function that took a job never hears that it was cancelled",
    HANDOVER,
    ["p_report in ('progress', 'extend') and v_passed.lease_id is not null", "false"],
    [CALLS],
  ),
  plant(
    "share-begun-anew",
    "each claim of a run with maxJobs counts from the start",
    SHARE,
    ["  if (p_mark ->> 'left')::integer > 0 then\n    return p_mark;\n  end if;\n", ""],
    [sqlTest("claim-share"), RUNS],
  ),
  plant(
    "share-not-limited",
    "a run with maxJobs takes a tenant's jobs without end",
    SHARE,
    [
      "then (v_next ->> 'left')::integer - v_count else 0 end",
      "then (v_next ->> 'left')::integer else 0 end",
    ],
    [RUNS],
  ),
  plant(
    "budget-not-asked",
    "a run begins jobs that don't fit into what is left of its isolate",
    RUN,
    ["    fits: (type) => budget.fits(usualMs(prepared, type)),\n", ""],
    [RUNS],
  ),
  plant(
    "unload-keeps-jobs",
    "an isolate that ends keeps what it runs until the leases are over",
    RUN,
    ['  signal.addEventListener("abort", giveUp, { once: true });\n', ""],
    [RUNS],
  ),
  plant(
    "doorbell-may-all",
    "the token of the doorbell reads the statistics",
    WORKER,
    ['      if (caller === "doorbell") return unauthorized();\n', ""],
    [RUNS],
  ),
  plant(
    "any-token-reports",
    "whoever has a token may report on any job",
    "src/http/callback-token.ts",
    ["return fits.includes(true) ? { jobId, leaseId } : undefined;", "return { jobId, leaseId };"],
    [CALLS, "tests/http/callback-token.test.ts"],
  ),
  plant(
    "joined-ring-forgotten",
    "a ring that joins a run after its last look is forgotten",
    "src/http/joiners.ts",
    [
      "    if (!this.#isRung) this.#isOpen = false;\n    return !this.#isOpen;",
      "    this.#isOpen = false;\n    return true;",
    ],
    ["tests/http/ring-runs.test.ts"],
  ),
  plant(
    "everybody-sweeps",
    "each worker of many looks at everything five times a second",
    migration("claim"),
    ["(last.at <= v_now - interval '150 milliseconds' or last.at > v_now)", "true"],
    [sqlTest("marks")],
  ),
];
