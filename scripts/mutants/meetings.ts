import { type Mutant, plant } from "./mutant.ts";

const workerTest = (name: string): string => `tests/worker/${name}.test.ts`;

/** Bugs in what happens when loops, calls and ends of a process meet in an unlucky moment. */
export const MEETING_MUTANTS: readonly Mutant[] = [
  plant(
    "buffer-never-forgets",
    "a worker with a long backlog keeps all jobs in memory that it has run",
    "src/worker/job-buffer.ts",
    ["line.head * 2 >= line.jobs.length", "isEmpty(line)"],
    [workerTest("job-buffer")],
  ),
  plant(
    "late-urgent-job-left-lying",
    "a critical job that comes when all slots are free already is not begun",
    "src/worker/lane-loop.ts",
    ["  executor.fill(lane);\n  giveBack(lane.takeExcess", "  giveBack(lane.takeExcess"],
    [workerTest("late-urgent-answer")],
  ),
  plant(
    "sign-in-without-end",
    "a worker that has to sign in again waits for that for ever, and can't be stopped",
    "src/worker/upkeep.ts",
    ["await parts.link.call(parts.register)", "await parts.register(new AbortController().signal)"],
    [workerTest("signing-in-again")],
  ),
  plant(
    "set-apart-crowds-out",
    "ends that are told alone leave no call for the others",
    "src/worker/settlements.ts",
    ["      this.#isAloneUnderWay = true;\n", ""],
    [workerTest("settlements")],
  ),
  plant(
    "locked-offer-taken-for-lost",
    "a job that was brought is given up because somebody holds its lease locked for a moment",
    "src/worker/offers.ts",
    ["else if (busy.length === 0) verdicts", "else verdicts"],
    [workerTest("busy-offers")],
  ),
  plant(
    "sent-after-the-transaction",
    "what a handler sends after its transaction was rolled back is done outside of it",
    "src/db/pg-transaction.ts",
    ["      isOver = true;\n", ""],
    ["tests/db/after-transactions.test.ts"],
  ),
  plant(
    "hidden-password-forgotten",
    "connections beside a node-postgres pool are made without its password",
    "src/db/pg.ts",
    ["    ...(password !== undefined && { password }),\n", ""],
    ["tests/db/pg-own-connections.test.ts"],
  ),
  plant(
    "given-up-while-listening-begins",
    "a connection for LISTEN that is made while its worker stops is kept for ever",
    "src/db/open-ear.ts",
    ["  if (signal.aborted) leave();\n", ""],
    ["tests/db/open-ear.test.ts"],
  ),
  plant(
    "edge-call-without-end",
    "a run of the HTTP worker waits for ever for a database that fell silent",
    "src/http/queue-worker.ts",
    ["this.#db = inTime(this.#sql, this.#clock);", "this.#db = this.#sql;"],
    ["tests/http/silent-database.test.ts"],
  ),
];
