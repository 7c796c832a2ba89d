import { type Mutant, migration, plant, race } from "./mutant.ts";

const LEASE = migration("lease");
const SETTLE = migration("settle");
const DEPENDENCIES = migration("dependencies");
const BULK = migration("enqueue_bulk");
const MANY = migration("enqueue_many");
const ADVANCE = migration("advance");
const OPERATE = migration("operate");

/** Bugs in who waits for whom. */
export const LOCK_MUTANTS: readonly Mutant[] = [
  plant(
    "lease-not-locked",
    "the rescuer can pass between the look at a lease and the end of its attempt",
    SETTLE,
    ["      order by lease.id for update\n    ) as held", "      order by lease.id\n    ) as held"],
    [race("fence")],
  ),
  plant(
    "bulk-lock-unordered",
    "bulk settlements lock leases in the order they were given",
    SETTLE,
    [
      "      order by lease.id for update\n    ) as held",
      "      order by array_position(p_lease_ids, lease.id) for update\n    ) as held",
    ],
    [race("deadlocks")],
  ),
  plant(
    "extend-lock-unordered",
    "heartbeats lock leases in the order they were given",
    LEASE,
    [
      "  order by lease.id for update;",
      "  order by array_position(p_lease_ids, lease.id) for update;",
    ],
    [race("deadlocks")],
  ),
  plant(
    "advance-locks-in-two-steps",
    "the fused step locks the leases of its two halves one after the other",
    ADVANCE,
    [
      "(jsonb_array_length(p_rest) > 0)::integer > 1",
      "(jsonb_array_length(p_rest) > 0)::integer > 9",
    ],
    [race("deadlocks")],
  ),
  plant(
    "children-locked-in-two-steps",
    "freed and doomed children are locked one after the other",
    DEPENDENCIES,
    [
      "where token.id = any (v_met || v_doomed) order by token.id for update;",
      "where token.id = any (v_met) order by token.id for update;",
    ],
    [race("deadlocks")],
  ),
  plant(
    "several-sweepers",
    "two sweeps take the same edges and wait for each other",
    DEPENDENCIES,
    ["or not pg_try_advisory_xact_lock(hashtextextended('millrace.sweep', 0)) then", "then"],
    [race("deadlocks")],
  ),
  plant(
    "keys-inserted-unordered",
    "bulk enqueues insert idempotency keys in the order they were given",
    BULK,
    ["    order by 1, 2, item.ordinal\n", "    order by item.ordinal\n"],
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
      "perform from queue.leases as lease where lease.id = v_lease_id for update;",
      "perform from queue.leases as lease where lease.id = v_lease_id;",
    ],
    [race("cancel")],
  ),
  plant(
    "retry-without-lock",
    "two retries of one job revive it twice",
    OPERATE,
    ["perform pg_advisory_xact_lock(hashtextextended('millrace.revive', p_job_id));", ""],
    [race("revive")],
  ),
  {
    name: "redrive-counts-twice",
    bug: "two redrives revive one job twice",
    edits: [
      // Either guard alone keeps the second redrive out: the dead letters' lock, and the look at what was deleted.
      {
        file: OPERATE,
        from: "    perform from queue.dead_letters as dead where dead.job_id = any (v_ids) order by dead.job_id for update;\n  end if;\n  for v_dead in",
        to: "  end if;\n  for v_dead in",
      },
      { file: OPERATE, from: "      continue when not found;\n", to: "" },
    ],
    tests: [race("revive")],
  },
];
