import { type Mutant, migration, PROPERTY, plant, race, sqlTest } from "./mutant.ts";

const OFFERS = migration("offers");
const ENQUEUE = migration("enqueue");
const RESCUE = migration("rescue");
const WORKER = migration("worker");
const BELLS = migration("bells");
const OFFERS_TEST = "tests/worker/offers.test.ts";
const TAKING_TEST = "tests/worker/taking-offers.test.ts";

/** Bugs in the way of a job from its enqueue straight to a sleeping worker. */
export const OFFER_MUTANTS: readonly Mutant[] = [
  plant(
    "offered-any-type",
    "a worker is brought a job of a type that it does not run",
    OFFERS,
    ["and (bell.type_ids is null or p_type_id = any (bell.type_ids))", ""],
    [sqlTest("offers"), PROPERTY],
  ),
  plant(
    "offered-once-only",
    "a job that may run only once is brought to a worker that may be gone",
    OFFERS,
    ["if p_max_retries = 0 or", "if"],
    [sqlTest("offers"), PROPERTY],
  ),
  plant(
    "offered-too-large",
    "an enqueue fails because its job does not fit into a notification",
    OFFERS,
    ["or octet_length(p_payload::text) > 5000", ""],
    [sqlTest("offers")],
  ),
  plant(
    "offered-while-paused",
    "a job of a paused queue is brought to a worker",
    ENQUEUE,
    ["not line.is_fifo and not line.is_paused and exists", "not line.is_fifo and exists"],
    [sqlTest("offers"), PROPERTY],
  ),
  plant(
    "offered-out-of-order",
    "a new job of a queue that is first in, first out overtakes older ones",
    ENQUEUE,
    ["not line.is_fifo and not line.is_paused and exists", "not line.is_paused and exists"],
    [sqlTest("offers"), PROPERTY],
  ),
  plant(
    "offered-before-pending",
    "a worker is brought new jobs while older ones are pending",
    BELLS,
    [
      "select not exists (\n      select from generate_series(0, 3)",
      "select true or not exists (\n      select from generate_series(0, 3)",
    ],
    [sqlTest("offers")],
  ),
  plant(
    "bell-never-brings-again",
    "a bell that was armed while jobs were pending never brings one",
    BELLS,
    ["if p_channel is not null then", "if false then"],
    [sqlTest("offers")],
  ),
  plant(
    "unanswered-offer-charged",
    "a job loses an attempt to a worker that was gone before",
    RESCUE,
    ["select not lost.is_offered and (", "select ("],
    [sqlTest("offers"), PROPERTY],
  ),
  plant(
    "unanswered-offer-suspect",
    "a job that was brought to a worker that was gone is taken for one that kills workers",
    RESCUE,
    ["case when verdict.is_offered then 0 else least(", "case when false then 0 else least("],
    [sqlTest("offers"), PROPERTY],
  ),
  plant(
    "unanswered-offer-waits",
    "who finds no work does not look for jobs that nobody answers for",
    migration("advance"),
    ["and queue.rescue(p_except => p_worker) > 0", "and false"],
    [sqlTest("offers"), PROPERTY],
  ),
  plant(
    "offer-never-confirmed",
    "a job that kills its workers is never charged, because its lease stays an offer",
    migration("extend"),
    [", is_offered = false", ""],
    [sqlTest("offers"), PROPERTY],
  ),
  plant(
    "offer-forgotten",
    "after an outage a job is given back that is on its way to the worker, and runs twice",
    migration("own_leases"),
    ["and not lease.is_handed_over and not lease.is_offered", "and not lease.is_handed_over"],
    [sqlTest("offers"), PROPERTY],
  ),
  plant(
    "offer-left-at-sign-out",
    "a job that is on its way to a worker that stops waits until its lease runs out",
    WORKER,
    ["where lease.worker_id = p_worker and lease.is_offered", "where false"],
    [sqlTest("offers")],
  ),
  plant(
    "late-offer-run",
    "a worker runs a job that was brought so late that somebody else may have it",
    "src/worker/offers.ts",
    ["|| deadline <= settings.clock.now()", ""],
    [OFFERS_TEST],
  ),
  plant(
    "offer-over-capacity",
    "a worker keeps a job that it has no slot for",
    "src/worker/offers.ts",
    ["if (!lane.isOpen || phase.isStopping", "if (phase.isStopping"],
    [TAKING_TEST],
  ),
  plant(
    "offer-not-accepted",
    "a job that was brought is lost when its handler takes longer than the offer",
    "src/worker/offers.ts",
    ["  void accept(attempt, parts);\n  // A handler may", "  // A handler may"],
    [TAKING_TEST],
  ),
  plant(
    "offer-accepted-late",
    "a handler that keeps its process busy begins before the database has heard of it",
    "src/worker/offers.ts",
    ["  await turn();\n  await turn();\n", ""],
    [TAKING_TEST],
  ),
  plant(
    "offer-believed-anywhere",
    "anybody can make a worker run a job that there is not",
    "src/worker/doorbell.ts",
    [
      "if (offerChannel !== undefined && channel === offerChannel) {",
      'if (payload.startsWith("{")) {',
    ],
    ["tests/worker/doorbell.test.ts", OFFERS_TEST],
  ),
  plant(
    "offer-to-the-deaf",
    "jobs are brought to a worker that hears nothing any more",
    "src/worker/doorbell.ts",
    ["if (this.isArmed) this.#isHeard = false;", ""],
    ["tests/worker/doorbell.test.ts"],
  ),
  plant(
    "offer-while-draining",
    "a worker that works until nothing is left ends before a job that is on its way",
    "src/worker/worker.ts",
    ["    this.#engine?.refuseOffers();\n", ""],
    [OFFERS_TEST],
  ),
  plant(
    "offers-after-stop",
    "a worker that stops is brought jobs all the same",
    "src/worker/engine.ts",
    ["    this.#bells.disarm();\n", ""],
    [OFFERS_TEST],
  ),
  plant(
    "signed-out-while-arming",
    "a worker signs out while a call of it is under way that asks for the next job, which is then brought to nobody",
    "src/worker/engine.ts",
    ["Promise.all([...this.#laneLoops, this.#bells.settled()])", "Promise.all(this.#laneLoops)"],
    ["tests/worker/signing-out.test.ts"],
  ),
  plant(
    "armed-after-sign-out",
    "a call that comes after the sign-out arms bells for nobody",
    BELLS,
    [
      "where worker.id = p_worker and worker.is_registered for key share;",
      "where worker.id = p_worker for key share;",
    ],
    [sqlTest("bells")],
  ),
  plant(
    "armed-beside-sign-out",
    "a sign-out does not see the bells that are just being armed",
    WORKER,
    ["  perform from queue.workers as worker where worker.id = p_worker for update;\n", ""],
    [race("bells")],
  ),
  plant(
    "old-snapshot-cannot-ring",
    "an enqueue in repeatable read fails because a bell that it sees has rung meanwhile",
    migration("wake"),
    ["current_setting('transaction_isolation') <> 'read committed'", "false"],
    [sqlTest("bells")],
  ),
  plant(
    "refused-during-a-look",
    "a job that is brought goes back because a look for others is under way",
    "src/worker/lane.ts",
    [
      "return this.hasFreeSlot && this.buffered === 0;",
      "return this.hasFreeSlot && this.buffered === 0 && this.room > 0;",
    ],
    ["tests/worker/lane.test.ts"],
  ),
];
