import { type Mutant, migration, plant, race, sqlTest } from "./mutant.ts";

const SETTLE = migration("settle");
const DEPENDENCIES = migration("dependencies");
const BULK = migration("enqueue_bulk");
const MANY = migration("enqueue_many");
const ADVANCE = migration("advance");
const OPERATE = migration("operate");
const DEAD_LETTERS = migration("dead_letters");

/** Bugs in who waits for whom. */
export const LOCK_MUTANTS: readonly Mutant[] = [
  plant(
    "lease-not-locked",
    "the rescuer can pass between the look at a lease and the end of its attempt",
    SETTLE,
    [
      "where lease.id = any (p_lease_ids) order by lease.id for update\n",
      "where lease.id = any (p_lease_ids) order by lease.id\n",
    ],
    [race("fence")],
  ),
  {
    name: "bulk-lock-unordered",
    bug: "bulk settlements lock leases in the order they were given",
    edits: [
      {
        file: SETTLE,
        from: "where lease.id = any (p_lease_ids) order by lease.id for update\n",
        to: "where lease.id = any (p_lease_ids) order by array_position(p_lease_ids, lease.id) for update\n",
      },
      {
        file: migration("verdict"),
        from: "    select distinct item.lease from jsonb_to_recordset(p_items)",
        to: "    select item.lease from jsonb_to_recordset(p_items)",
      },
    ],
    tests: [race("deadlocks")],
  },
  plant(
    "settlement-waits-for-leases",
    "a lease that somebody else holds keeps all other ends of its call waiting",
    SETTLE,
    ["order by lease.id for update skip locked", "order by lease.id for update"],
    [race("deadlocks"), sqlTest("busy-leases")],
  ),
  plant(
    "busy-taken-for-lost",
    "an end whose lease somebody else holds is refused as if the lease were lost",
    ADVANCE,
    ["queue.is_unsettled(given.lease_id, given.job_id, p_worker) as is_busy", "false as is_busy"],
    [race("deadlocks"), sqlTest("busy-leases")],
  ),
  plant(
    "extension-waits-for-leases",
    "a lease that somebody else holds keeps all leases of its worker from being extended",
    migration("extend"),
    ["order by lease.id for no key update skip locked", "order by lease.id for no key update"],
    [race("deadlocks")],
  ),
  plant(
    "cancel-locks-out-extensions",
    "a request to cancel that is not committed keeps the lease from being extended",
    OPERATE,
    ["where lease.id = v_lease_id for key share;", "where lease.id = v_lease_id for update;"],
    [race("deadlocks")],
  ),
  plant(
    "children-waited-for",
    "a child that somebody else holds keeps its parent from ending",
    DEPENDENCIES,
    ["order by token.id\n        for update skip locked", "order by token.id\n        for update"],
    [race("deadlocks")],
  ),
  plant(
    "sweep-waits-for-edges",
    "a sweep waits for an edge that somebody else holds, and all that it has taken waits with it",
    DEPENDENCIES,
    ["for update of edge skip locked", "for update of edge"],
    [race("deadlocks")],
  ),
  plant(
    "children-left-behind",
    "a child that somebody held when its parent ended waits for ever",
    DEPENDENCIES,
    [
      "if v_is_cut or p_after is not null or v_taken < cardinality(v_children) then",
      "if v_is_cut or p_after is not null then",
    ],
    [race("deadlocks"), race("dependencies")],
  ),
  plant(
    "keys-inserted-unordered",
    "bulk enqueues insert idempotency keys in the order they were given",
    migration("keys"),
    ["  order by wanted.position\n", "  order by wanted.ordinal\n"],
    [race("enqueue")],
  ),
  plant(
    "names-interned-unordered",
    "bulk enqueues make new types in the order they were given",
    MANY,
    [
      "    select distinct item.type from unnest(p_jobs) as item order by item.type\n",
      "    select item.type from unnest(p_jobs) as item group by item.type order by min(item.ordinal)\n",
    ],
    [race("enqueue")],
  ),
  {
    name: "parent-not-locked",
    bug: "a parent can end between the look at it and the commit of its child, which then waits for ever",
    edits: [{ file: BULK, from: "for key share", to: "", every: true }],
    tests: [race("dependencies")],
  },
  plant(
    "racing-edge-unmarked",
    "a child enqueued while its parent runs is not marked for the sweep",
    BULK,
    ["coalesce(not parent.is_locked, false),", "false,"],
    [race("dependencies")],
  ),
  plant(
    "cancel-looks-once",
    "a job that goes back to the queue while a cancellation waits for it escapes",
    OPERATE,
    ["for v_look in 1..5 loop", "for v_look in 1..1 loop"],
    [race("cancel")],
  ),
  plant(
    "cancel-without-lease-lock",
    "a request to cancel does not wait for the attempt's end in flight",
    OPERATE,
    [
      "perform from queue.leases as lease where lease.id = v_lease_id for key share;",
      "perform from queue.leases as lease where lease.id = v_lease_id;",
    ],
    [race("cancel")],
  ),
  plant(
    "retry-without-lock",
    "two retries of one job revive it twice",
    OPERATE,
    ["perform queue.hold_ended(array[p_job_id]);", ""],
    [race("revive")],
  ),
  {
    name: "redrive-counts-twice",
    bug: "two redrives revive one job twice",
    edits: [
      // Either guard alone keeps the second redrive out: the dead letters' lock, and the look at what was deleted.
      {
        file: DEAD_LETTERS,
        from: "    perform from queue.dead_letters as dead where dead.job_id = any (v_ids) order by dead.job_id for update;\n    perform queue.hold_ended(v_ids);\n  end if;\n  for v_dead in",
        to: "  end if;\n  for v_dead in",
      },
      { file: DEAD_LETTERS, from: "      continue when not found;\n", to: "" },
    ],
    tests: [race("revive")],
  },
];
