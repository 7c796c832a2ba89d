import { type Mutant, plant } from "./mutant.ts";

function workerTest(name: string): string {
  return `tests/worker/${name}.test.ts`;
}

/** Bugs in the library and its worker. */
export const TYPESCRIPT_MUTANTS: readonly Mutant[] = [
  plant(
    "effect-outside-transaction",
    "commitWith completes the job on another connection than the handler's writes",
    "src/worker/job-context.ts",
    ["await settleOne(tx, {", "await settleOne(sql, {"],
    [workerTest("commit-with")],
  ),
  plant(
    "handler-not-told-of-loss",
    "a handler goes on though its lease was lost",
    "src/worker/verdicts.ts",
    ['attempt.abort("lost", new LeaseLostError(attempt.id));', ""],
    [workerTest("interruption")],
  ),
  plant(
    "lease-settled-whole-after-part",
    "a lease of which one job failed is settled as if all had completed",
    "src/worker/settlements.ts",
    [
      "    this.breakUp(attempt.lease);\n    this.#enter(",
      "    if (attempt.lease.isWhole) return this.complete(attempt);\n    this.#enter(",
    ],
    [workerTest("whole-leases")],
  ),
  plant(
    "held-back-for-ever",
    "completed jobs wait for a slow one of their lease without end",
    "src/worker/settlements.ts",
    ["const PATIENCE = 5;", "const PATIENCE = Number.POSITIVE_INFINITY;"],
    [workerTest("whole-leases")],
  ),
  plant(
    "leases-not-extended",
    "a handler that takes longer than its lease loses its job",
    "src/worker/upkeep.ts",
    ["if (isDue && !signal.aborted) await extend(parts);", ""],
    [workerTest("interruption")],
  ),
  plant(
    "prefetched-jobs-kept-at-stop",
    "a worker that stops keeps what it fetched ahead until the lease runs out",
    "src/worker/verdicts.ts",
    ['if (attempt.state === "buffered") this.end(attempt, "released", {});', ""],
    [workerTest("stopping")],
  ),
  plant(
    "shutdown-counts-as-failure",
    "a job that a stopping worker gives back has lost an attempt",
    "src/worker/verdicts.ts",
    ['else if (attempt.stopReason === "shutdown") this.interrupt(attempt, error);', ""],
    [workerTest("stopping")],
  ),
  plant(
    "error-text-unsanitised",
    "an error text with NUL or a lone surrogate can't be stored, and the attempt never ends",
    "src/core/job-error.ts",
    [
      "const head = storableText(value.slice(0, maxBytes));",
      "const head = value.slice(0, maxBytes);",
    ],
    ["tests/core/job-error.test.ts"],
  ),
  plant(
    "reconnect-without-jitter",
    "all workers come back at the same moment",
    "src/core/backoff.ts",
    ["return whole * (1 - backoff.jitter * random);", "return whole;"],
    ["tests/core/backoff.test.ts"],
  ),
  plant(
    "commits-not-shared",
    "each of many jobs that are enqueued at the same time costs a commit",
    "src/client/shared-commits.ts",
    ["if (waiting) waiting.push", "if (waiting && this.#gathering.size === 0) waiting.push"],
    [workerTest("economy")],
  ),
  plant(
    "commits-shared-by-halves",
    "callers that enqueue one job after the other wait for two calls, the others' and their own",
    "src/client/shared-commits.ts",
    ["      await turn();\n", ""],
    ["tests/client/shared-commits.test.ts"],
  ),
  plant(
    "broken-client-kept",
    "a connection broke, and what the driver is asked meanwhile is never answered",
    "src/db/sqlstate.ts",
    [
      "export function isConnectionBroken(",
      "export function isConnectionBroken(_error: unknown): boolean {\n  return false;\n}\nexport function wasConnectionBroken(",
    ],
    ["tests/db/broken-links.test.ts"],
  ),
  plant(
    "statements-share-a-connection",
    "two statements are under way on a connection, and a pooler gives the answer of the second one to somebody else",
    "src/db/postgres-js.ts",
    ["      max_pipeline: 0,\n", ""],
    ["tests/db/pooled-statements.test.ts"],
  ),
  plant(
    "settling-looks-always",
    "what has ended is told together with a look at an idle queue, and the answer waits for the disk",
    "src/worker/lane-loop.ts",
    [" && clock.now() >= lane.nextClaimAt;", ";"],
    [workerTest("idle")],
  ),
  plant(
    "bell-armed-late",
    "a claim that emptied the queue is followed by a look before the worker asks to be woken",
    "src/worker/lane-loop.ts",
    ["if (isFew && !phase.isStopping) await armBell(parts);", ""],
    [workerTest("idle")],
  ),
  plant(
    "rung-while-armed",
    "a bell that rings before its arming was answered counts as armed, and nobody wakes the worker",
    "src/worker/doorbell.ts",
    ["if (this.#rings === rings) ", ""],
    [workerTest("doorbell")],
  ),
  plant(
    "calls-share-a-turn",
    "two claims at a time begin at the same tenant",
    "src/worker/marks.ts",
    ["(this.#turns[call] ?? null)", "(this.#turns[0] ?? this.#turns[1] ?? null)"],
    [workerTest("marks")],
  ),
  plant(
    "blocked-process-drops-unasked",
    "a worker that was blocked gives up its leases by the clock, though nobody has taken them",
    "src/worker/watch.ts",
    ["      await ask(parts, signal);\n", ""],
    [workerTest("blocked-loop")],
  ),
  plant(
    "own-leases-rescued",
    "a worker that was blocked takes away its own leases before it extends them",
    "src/worker/lane-loop.ts",
    ["const isLate = isDue && parts.book.isLate(clock.now());", "const isLate = false;"],
    [workerTest("blocked-loop")],
  ),
  plant(
    "late-timers-believed",
    "a handler times out because another one blocked the process",
    "src/worker/deadlines.ts",
    ["now - this.#firesAt >= LATE_MS", "false"],
    [workerTest("deadlines")],
  ),
  plant(
    "given-up-claims-forgotten",
    "the jobs of a claim that was committed after the worker gave it up wait for its lease, and may run only once, so they fail",
    "src/worker/lane-loop.ts",
    ["      parts.orphans.gaveUp();\n", ""],
    [workerTest("orphans")],
  ),
  plant(
    "claims-under-way-released",
    "a worker gives back the jobs of a claim whose answer is on its way, and they run twice",
    "src/worker/orphans.ts",
    ["    await Promise.allSettled([...this.#calls]);\n", ""],
    [workerTest("orphans")],
  ),
  plant(
    "single-attempt-given-back",
    "a job that may run only once begins again after a stop that cut it short",
    "src/worker/verdicts.ts",
    ["if (!attempt.mayRunOnce || !attempt.isBegun) {", "if (true) {"],
    [workerTest("stopping")],
  ),
];
