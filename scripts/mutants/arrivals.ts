import { type Mutant, migration, plant, race, sqlTest } from "./mutant.ts";

const NAMES = migration("names");
const KEYS = migration("keys");
const ENQUEUE = migration("enqueue");
const ARRIVALS = migration("arrivals");
const ADOPT = migration("adopt");
const WAKE = migration("wake");

/** Bugs in what comes beside other transactions: names, bells, keys, and what is not kept as it was given. */
export const ARRIVAL_MUTANTS: readonly Mutant[] = [
  plant(
    "names-waited-for",
    "a producer waits for a stranger's open transaction that makes a name",
    NAMES,
    [
      "set search_path = pg_catalog, pg_temp\nset lock_timeout = '5ms'\nas $$\nbegin\n  perform queue.check_name",
      "set search_path = pg_catalog, pg_temp\nas $$\nbegin\n  perform queue.check_name",
    ],
    [race("names")],
  ),
  plant(
    "pair-locks-its-names",
    "the first job of a type on a queue waits for whoever holds the row of that type or queue",
    NAMES,
    [
      "  constraint type_queues_pkey primary key (type_id, queue_id)\n",
      "  constraint type_queues_pkey primary key (type_id, queue_id),\n  foreign key (type_id) references queue.types (id), foreign key (queue_id) references queue.queues (id)\n",
    ],
    [race("names")],
  ),
  plant(
    "adoption-waits",
    "a claim waits for whoever holds the parent of a job that has arrived",
    ADOPT,
    ["    v_held := queue.held_parents(v_held);\n", "    v_held := '{}';\n"],
    [race("adoption")],
  ),
  plant(
    "one-tries-names",
    "who adopts in a transaction that stays open keeps all others from making lost names",
    ADOPT,
    [
      "  if (pg_sequence_last_value('queue.names_mark') between v_now_ms - 149 and v_now_ms) is not true then",
      "  if queue.may_sweep('{-1}', null, null) then",
    ],
    [race("adoption")],
  ),
  plant(
    "arrival-uncancelled",
    "a job that was cancelled before it was adopted runs all the same",
    ADOPT,
    ["    continue when v_cancelled.cancelled_at is null;", "    continue;"],
    [race("names")],
  ),
  plant(
    "first-job-unrung",
    "the first job of a type waits until a worker looks by itself",
    ARRIVALS,
    ["order by known.id desc", "and false order by known.id desc"],
    ["tests/worker/names.test.ts"],
  ),
  plant(
    "held-bell-silent",
    "jobs of everybody wait for the poll while a transaction that rang stays open",
    WAKE,
    ["    if v_count < least(p_count, 16) then", "    if false then"],
    [sqlTest("held-bells"), "tests/worker/waking.test.ts"],
  ),
  plant(
    "held-bell-rung-for-ever",
    "every enqueue notifies while a transaction that rang stays open",
    WAKE,
    ["and passed.number >= bell.number", "and false"],
    [sqlTest("held-bells")],
  ),
  plant(
    "full-queue-fails-enqueue",
    "an enqueue fails because the server's queue of notifications is full",
    WAKE,
    [" and pg_notification_queue_usage() <= 0.5", ""],
    [sqlTest("notifications")],
  ),
  plant(
    "key-over-all-types",
    "a key of one type hides a job of another",
    KEYS,
    ["|| p_type || E'\\n'", "|| E'\\n'"],
    [sqlTest("idempotency")],
  ),
  plant(
    "key-of-services-probed",
    "an end user finds the job that a service enqueued with a key",
    KEYS,
    ["case when p_is_end_user then 'user' else 'service' end", "'all'"],
    [sqlTest("idempotency")],
  ),
  plant(
    "cancelled-keeps-its-key",
    "a job that was cancelled keeps its replacement out",
    KEYS,
    [
      "    elsif coalesce(queue.status_of(v_known), 'cancelled') <> 'cancelled' then",
      "    elsif true then",
    ],
    [sqlTest("idempotency")],
  ),
  plant(
    "other-payload-swallowed",
    "another payload under a known key is dropped without a word",
    ENQUEUE,
    ["queue.payload_of(v_known) <> v_payload then", "false then"],
    [sqlTest("idempotency")],
  ),
  plant(
    "lost-race-thrown",
    "an enqueue fails because the database has a stricter isolation",
    "src/db/retrying.ts",
    ["const MOST_TRIES = 20;", "const MOST_TRIES = 1;"],
    ["tests/client/isolation.test.ts"],
  ),
  plant(
    "loss-unseen",
    "NaN, maps and functions vanish from a payload",
    "src/core/json.ts",
    ["if (loss) throw fault(loss.path, loss.reason);", ""],
    ["tests/core/json.test.ts"],
  ),
  plant(
    "ids-rounded",
    "a handler gets another number than the one that was enqueued",
    "src/db/claimed-jobs.ts",
    ["    replace(at, new InexactPayload(", "    if (at < 0) replace(at, new InexactPayload("],
    ["tests/worker/exact-payloads.test.ts"],
  ),
];
