import { type Mutant, plant } from "./mutant.ts";

const workerTest = (name: string): string => `tests/worker/${name}.test.ts`;

const SILENT = "tests/db/silent-connections.test.ts";
const SILENT_WORKER = workerTest("silent-network");
const FAILOVER = workerTest("failover");
const FAULTS = workerTest("connection-faults");
const DEADLINES = "tests/client/deadlines.test.ts";

/** Bugs in what becomes of calls whose connection, or whose server, fails. */
export const CONNECTION_MUTANTS: readonly Mutant[] = [
  plant(
    "broken-client-kept",
    "a connection broke, and is handed out again",
    "src/db/connection-pool.ts",
    ["      if (next.isLost) continue;\n", ""],
    ["tests/db/connection-pool.test.ts"],
  ),
  plant(
    "silence-unheard",
    "a connection on which nothing arrives any more is waited for without end",
    "src/db/silence.ts",
    ["if (strikes < LOOKS) return;", "if (strikes < LOOKS * 1_000) return;"],
    [SILENT, SILENT_WORKER],
  ),
  plant(
    "answer-hides-silence",
    "the answer to one statement hides that none comes to the next",
    "src/db/answers-due.ts",
    ["this.#since = this.#isDue ? performance.now() : undefined;", "this.#since = undefined;"],
    [SILENT, "tests/db/answers-due.test.ts"],
  ),
  plant(
    "pooled-transaction-unasked",
    "a transaction behind a pooler that never tells its session waits without end",
    "src/db/database.ts",
    ["lookMs * UNKNOWN_LOOKS", "lookMs * 10_000"],
    [SILENT],
  ),
  plant(
    "dead-idle-connections-used",
    "connections that fell silent together with one that was lost are handed out unseen",
    "src/db/checked-source.ts",
    ["this.#lastLoss.at = performance.now();", ""],
    [SILENT],
  ),
  plant(
    "opening-outlives-close",
    "connections that are being made stay after close()",
    "src/db/connection-pool.ts",
    ["for (const opening of this.#opening) opening.abort(closed());", ""],
    [SILENT],
  ),
  plant(
    "pool-connects-without-end",
    "a node-postgres pool whose server accepts and says nothing keeps its places taken",
    "src/db/pg.ts",
    ["  boundConnects(pool, connectTimeoutMs);\n", ""],
    ["tests/db/pg-pool-connects.test.ts"],
  ),
  plant(
    "long-work-taken-for-silence",
    "a statement that takes long is ended",
    "src/db/silence.ts",
    ["isSame && !isWorking", "isSame"],
    [SILENT],
  ),
  plant(
    "given-up-sessions-stay",
    "what was given up here goes on on the server, and keeps its locks",
    "src/db/silence.ts",
    ["this.#graves.set(session, 0);\n    this.#arm(0);", ""],
    [SILENT],
  ),
  plant(
    "enqueue-without-end",
    "an enqueue whose call hangs never returns",
    "src/client/shared-commits.ts",
    ["      dueTimes.add(waiting, ms);\n", ""],
    [DEADLINES, SILENT_WORKER],
  ),
  plant(
    "hung-call-holds-up-others",
    "enqueues wait for one of their kind whose call hangs",
    "src/client/shared-commits.ts",
    ["const slowAt = clock.now() + SLOW_MS;", "const slowAt = clock.now() + SLOW_MS * 1_000;"],
    [DEADLINES],
  ),
  plant(
    "silent-look-waited-for",
    "a look for a result on a silent connection takes all of the time there is",
    "src/client/await-result.ts",
    ["const FIRST_ANSWER_MS = 2_000;", "const FIRST_ANSWER_MS = 60_000;"],
    [DEADLINES],
  ),
  plant(
    "leases-by-the-shared-connections",
    "handlers that use up their pool keep the worker from extending its leases",
    "src/worker/lifeline.ts",
    ["const own = sql.dedicated?.();", "const own = undefined as Sql | undefined;"],
    [workerTest("own-lease-connection")],
  ),
  plant(
    "session-end-blamed-on-data",
    "a pooler that closes a connection fails the job whose end was being written",
    "src/db/sqlstate.ts",
    ["(isFatal(raised) && !/^(22|42)/.test(sqlstate))", "false"],
    ["tests/db/sqlstate.test.ts", FAULTS],
  ),
  plant(
    "not-begun-charged",
    "a job loses an attempt because there was no connection for its transaction",
    "src/worker/verdicts.ts",
    ["else if (couldNotBegin(attempt, error)) this.#postpone(attempt);", ""],
    [FAULTS],
  ),
  plant(
    "standby-taken-for-primary",
    "of several servers a standby is taken that answers first",
    "src/db/connection.ts",
    ['address.saysPrimary && row?.["standby"] === "true"', "false"],
    [FAILOVER],
  ),
  plant(
    "standby-is-no-outage",
    "an enqueue that meets a standby is told as a fault of its own",
    "src/db/sqlstate.ts",
    ["    isReadOnly(sqlstate, raised) ||\n", ""],
    ["tests/db/sqlstate.test.ts", FAILOVER],
  ),
  plant(
    "unconfirmed-told-as-done",
    "a commit that no standby confirmed is acknowledged",
    "src/db/one-connection.ts",
    ["if (connection.takeWarning()) throw notReplicated();", ""],
    [FAILOVER],
  ),
  plant(
    "foreign-parameters-sent",
    "what other tools put into an address is refused",
    "src/db/address-parameters.ts",
    ["else if (!IGNORED.has(name) &&", "else if ("],
    ["tests/db/address.test.ts"],
  ),
];
