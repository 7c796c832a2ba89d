import { type Mutant, migration, plant, race, sqlTest } from "./mutant.ts";

const RETENTION = migration("retention");
const FAILURES = migration("failures");
const MAINTAIN = migration("maintain");
const CLOCK = migration("clock");
const CLAIM = migration("claim");
const LEASE = migration("lease");
const FAIR = migration("fair");
const WORKER = migration("worker");

/** Bugs in retention, in maintenance whose parts fail, after the clock was set back, and beside much that is not for a call. */
export const MAINTENANCE_MUTANTS: readonly Mutant[] = [
  plant(
    "open-jobs-dropped",
    "retention drops partitions that hold open jobs",
    RETENTION,
    ["if queue.has_open_jobs(v_part.first_id, v_part.end_id) or", "if"],
    [race("retention")],
  ),
  plant(
    "drop-without-lock",
    "retention drops a partition while a job of it is being run again",
    RETENTION,
    ["    lock table only queue.jobs, only queue.runs in access exclusive mode;\n", "    null;\n"],
    [race("retention")],
  ),
  plant(
    "needed-results-dropped",
    "retention drops the result of a parent that a blocked job needs",
    RETENTION,
    [" or queue.is_needed(v_part.first_id, v_part.end_id) then", " then"],
    [race("retention"), sqlTest("partitions")],
  ),
  plant(
    "drop-tried-by-everybody",
    "each of many workers stops all others for the locks of a drop",
    RETENTION,
    ["(part.next_look_at between v_now and v_now + interval '1 hour') is not true", "true"],
    [race("retention")],
  ),
  plant(
    "keys-deleted-under-locks",
    "what is kept beside the jobs of a partition is written to disk while everybody waits",
    RETENTION,
    [" or v_cleared.o_count > 1000 then", " then"],
    [race("retention")],
  ),
  plant(
    "keys-left-behind",
    "a key that somebody held leads to a job that there is no more",
    RETENTION,
    ["  o_is_clear := not exists (", "  o_is_clear := true or not exists ("],
    [race("retention")],
  ),
  plant(
    "parts-undo-each-other",
    "maintenance of which a part fails does nothing at all",
    MAINTAIN,
    [
      "      when others then\n        v_failed",
      "      when division_by_zero then\n        v_failed",
    ],
    [sqlTest("maintain")],
  ),
  plant(
    "failure-noted-each-time",
    "a part of maintenance that fails writes into the audit trail every few seconds",
    FAILURES,
    ["(v_known.noted_at between v_now - interval '1 day' and v_now) is not true", "true"],
    [sqlTest("maintain"), race("retention")],
  ),
  plant(
    "ids-run-out-untold",
    "nobody hears that ids run out before enqueue fails",
    MAINTAIN,
    ["  if v_ahead < 2 then", "  if v_ahead < 0 then"],
    [sqlTest("maintain"), race("retention")],
  ),
  plant(
    "sweep-waits-for-the-clock",
    "after the clock was set back nobody looks at everything until it has caught up",
    CLAIM,
    [" or last.at > v_now)", ")"],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "lease-waits-for-the-clock",
    "after the clock was set back the jobs of a dead worker wait until it has caught up",
    CLOCK,
    [
      "then v_now + greatest(lease.expires_at - ahead.seen_at, least(lease.expires_at - v_now, interval '30 seconds'))",
      "then lease.expires_at",
    ],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "new-leases-shortened",
    "a lease that was claimed since the clock was set back runs out while its worker lives",
    CLOCK,
    [
      "    where lease.expires_at > v_now and (lease.expires_at > ahead.seen_at or lease.claimed_at > v_now)\n    order",
      "    where lease.expires_at > v_now\n    order",
    ],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "heartbeat-hides-the-step",
    "a sign of life wipes out by how much the clock was set back",
    WORKER,
    [
      "  if (select worker.seen_at from queue.workers as worker where worker.id = p_worker) > queue.clock() then",
      "  if false then",
    ],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "retry-waits-for-the-clock",
    "after the clock was set back retries wait until it has caught up",
    CLOCK,
    ["set at = late.at", "set at = token.at"],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "dead-worker-alive",
    "after the clock was set back a dead worker is taken for alive until it has caught up",
    CLOCK,
    ["where worker.id = ahead.worker_id and not exists (", "where false and not exists ("],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "quota-waits-for-the-clock",
    "after the clock was set back a tenant has used up its minute until it has caught up",
    migration("end_users"),
    [" or known.minute_began_at > v_now as is_new", " as is_new"],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "ring-waits-for-the-clock",
    "after the clock was set back the Edge worker is not called until it has caught up",
    migration("doorbell"),
    [
      "v_last.at between v_now - interval '1 second' and v_now then",
      "v_last.at > v_now - interval '1 second' then",
    ],
    [sqlTest("doorbell")],
  ),
  plant(
    "partition-waits-for-the-clock",
    "after the clock was set back no partition is begun or dropped until it has caught up",
    migration("partitions"),
    ["where part.begun_at > v_now or (", "where false or ("],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "claimed-before-enqueued",
    "a job is told to be processing before it was pending",
    migration("few"),
    [
      "select nextval('queue.lease_ids'), queue.clock(), o_expires_at",
      "select nextval('queue.lease_ids'), v_now, o_expires_at",
    ],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "history-goes-back",
    "the history of a job goes back in time where the clock did",
    migration("views"),
    [
      "  max(step.at) over (partition by step.job_id order by step.seq, step.part) as at,",
      "  step.at,",
    ],
    [sqlTest("clock-set-back")],
  ),
  plant(
    "empty-queues-looked-at",
    "a claim looks at every queue that ever was",
    LEASE,
    ["v_lines := queue.busy_lines(", "v_lines := queue.lines("],
    [sqlTest("cliffs")],
  ),
  plant(
    "backlog-passed-each-time",
    "each claim passes all jobs that nobody here serves, and all that an old snapshot keeps",
    LEASE,
    ["      if v_detour is not null then\n        perform", "      if false then\n        perform"],
    [sqlTest("cliffs")],
  ),
  plant(
    "emptiness-forgotten",
    "each claim of an empty queue passes all that an old snapshot keeps",
    LEASE,
    [
      "      if v_read > 2000 + 10 * p_limit then\n        perform",
      "      if false then\n        perform",
    ],
    [sqlTest("near-empty")],
  ),
  plant(
    "old-places-overlooked",
    "a job that comes back to its old place is passed as if it were long gone",
    migration("detours"),
    ["where known.mark -> 'from' is not null for", "where false for"],
    [sqlTest("near-empty")],
  ),
  plant(
    "sleepers-look-at-all",
    "a worker that goes to sleep passes all that an old snapshot keeps",
    migration("bells"),
    [
      "    v_from := queue.pending_from(p_queue_ids, null, p_type_ids);\n",
      "    v_from := timestamptz '-infinity';\n",
    ],
    [sqlTest("near-empty")],
  ),
  plant(
    "detour-for-ever",
    "what came before the place where a claim begins is never found",
    migration("detours"),
    [
      "where v_now between last.at and last.at + last.pause_ms * interval '1 millisecond'",
      "where true",
    ],
    [sqlTest("cliffs")],
  ),
  plant(
    "heavy-tenants-dear",
    "one tenant that weighs more makes every claim dearer",
    FAIR,
    ["if cardinality(v_heavy) > 64 or", "if cardinality(v_heavy) > 0 or"],
    [sqlTest("cliffs")],
  ),
  plant(
    "weight-forgotten",
    "a tenant that weighs more gets no more in a large claim",
    FAIR,
    ["least(p_turn * point.weight::bigint, p_limit)::integer", "p_turn"],
    [sqlTest("cliffs"), sqlTest("claim-fair")],
  ),
  plant(
    "later-jobs-read",
    "explain_job reads all jobs of the queue, those that come later too",
    migration("explain"),
    ["and (token.at, token.id) < (case", "and (token.at + interval '0', token.id) < (case"],
    [sqlTest("cliffs")],
  ),
  plant(
    "all-leases-read",
    "a call that names no lease reads those of everybody",
    migration("verdict"),
    [
      "where (case when cardinality(lease.job_ids) = 1 then lease.job_ids[1] end) = p_job_id",
      "where cardinality(lease.job_ids) = 1 and p_job_id = any (lease.job_ids)",
    ],
    [sqlTest("cliffs")],
  ),
  plant(
    "bell-for-each-of-many",
    "a worker of thousands of queues arms thousands of bells each time it sleeps",
    migration("bells"),
    ["if v_is_wide or cardinality(v_lines) > 256 then", "if false then"],
    [sqlTest("bells")],
  ),
  plant(
    "queues-counted-to-the-last",
    "a worker that goes to sleep reads all queues that ever held its types",
    migration("bells"),
    ["    v_is_wide := queue.is_wide(p_type_ids);\n", "    v_is_wide := false;\n"],
    [sqlTest("cliffs")],
  ),
  plant(
    "shared-queues-counted-twice",
    "a worker of several types in the same queues counts as one of very many",
    migration("bells"),
    ["select count(distinct few.queue_id) > 256", "select count(few.queue_id) > 256"],
    [sqlTest("bells")],
  ),
  plant(
    "drop-waits-for-long",
    "a drop stands in everybody's way for seconds",
    RETENTION,
    [
      "set_config('lock_timeout', v_patience_ms || 'ms', true)",
      "set_config('lock_timeout', '5s', true)",
    ],
    [race("retention")],
  ),
];
