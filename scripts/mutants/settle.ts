import { type Mutant, migration, PROPERTY, plant, race, sqlTest } from "./mutant.ts";

const SETTLE = migration("settle");
const VERDICT = migration("verdict");
const CONTRACT = migration("contract");
const EXTEND = migration("extend");

/** One way to end an attempt that asks for the job and not for the lease. */
function unfenced(outcome: string): Mutant {
  return {
    name: `unfenced-${outcome}`,
    bug: `a worker that lost its lease can still end the attempt of another as ${outcome}`,
    edits: [
      {
        file: VERDICT,
        from: "    select distinct item.lease from jsonb_to_recordset(p_items) as item (lease bigint)), p_worker);",
        to: `    select distinct case when item.outcome = '${outcome}' then coalesce(queue.live_lease(item.id), item.lease)
      else item.lease end
    from jsonb_to_recordset(p_items) as item (lease bigint, id bigint, outcome text)));`,
      },
      {
        file: VERDICT,
        from: "join given on given.lease = held.lease_id and given.id = held.job_id",
        to: `join given on (given.lease = held.lease_id or given.outcome = '${outcome}') and given.id = held.job_id`,
      },
    ],
    tests: [race("fence")],
  };
}

/** Bugs in how attempts end. */
export const SETTLE_MUTANTS: readonly Mutant[] = [
  ...["completed", "failed", "snoozed", "released", "discarded", "cancelled"].map(unfenced),
  plant(
    "unfenced-contract",
    "complete_job and fail_job settle whatever lease the job has now",
    CONTRACT,
    [
      "queue.settle_one(coalesce(p_lease_id, queue.live_lease(p_job_id))",
      "queue.settle_one(coalesce(queue.live_lease(p_job_id), p_lease_id)",
    ],
    [race("fence")],
  ),
  plant(
    "lost-lease-answered-as-done",
    "a worker that lost its lease is told that its completion stands, and commits its effects beside those of another",
    VERDICT,
    ["  return v_status;\n", "  return coalesce(v_status, 'completed');\n"],
    [race("fence")],
  ),
  plant(
    "whole-completion-of-any-size",
    "a lease is completed although it holds more jobs than were said to have ended",
    SETTLE,
    [
      "coalesce(cardinality(lease.job_ids) = given.size, false) as is_held",
      "lease.id is not null as is_held",
    ],
    [sqlTest("whole-leases")],
  ),
  plant(
    "whole-completion-forgets-children",
    "jobs wait for ever for parents that were completed by the lease",
    SETTLE,
    ["perform queue.after_completion(v_done);", ""],
    [sqlTest("whole-leases"), PROPERTY],
  ),
  {
    name: "unfenced-bulk-completion",
    bug: "the fused step completes jobs that another worker holds now",
    edits: [
      {
        file: SETTLE,
        from: "  v_alive bigint[] := queue.lock_leases(p_lease_ids, p_worker);\n  v_first",
        to: "  v_alive bigint[] := queue.lock_leases(array(\n    select queue.live_lease(item.id) from unnest(p_job_ids) as item (id)));\n  v_first",
      },
      {
        file: SETTLE,
        from: "join held on held.lease_id = given.lease_id and held.job_id = given.job_id",
        to: "join held on held.job_id = given.job_id",
      },
      {
        file: SETTLE,
        from: "left join ended on ended.lease_id = given.lease_id and ended.job_id = given.job_id",
        to: "left join ended on ended.lease_id = held.lease_id and ended.job_id = given.job_id",
      },
    ],
    tests: [race("fence"), sqlTest("fence")],
  },
  plant(
    "extend-goes-on-after-loss",
    "a worker is told that its lease is alive though it was lost",
    EXTEND,
    ["from unnest(v_alive) as alive (id)", "from unnest(p_lease_ids) as alive (id)"],
    [race("fence")],
  ),
  {
    name: "extend-of-anyone",
    bug: "a worker can extend the leases of another",
    edits: [
      {
        file: EXTEND,
        from: "where lease.id = any (p_lease_ids) and lease.worker_id = p_worker",
        to: "where lease.id = any (p_lease_ids)",
        every: true,
      },
    ],
    tests: [sqlTest("extend")],
  },
  plant(
    "extend-shortens",
    "a late extension cuts a lease short",
    EXTEND,
    ["greatest(lease.expires_at, v_expires_at)", "v_expires_at"],
    [sqlTest("extend")],
  ),
  plant(
    "unfenced-progress",
    "a worker that lost its lease still writes progress",
    migration("progress"),
    ["if not found or exists (", "if false and exists ("],
    [race("fence")],
  ),
  plant(
    "release-of-others",
    "a worker that forgets its leases gives back those of all",
    migration("own_leases"),
    [
      "where lease.id = any (p_lease_ids) and lease.worker_id = p_worker and",
      "where lease.id = any (p_lease_ids) and",
    ],
    [sqlTest("release"), PROPERTY],
  ),
  {
    name: "snooze-uses-attempt",
    bug: "a snooze does not give the attempt back",
    edits: [
      {
        file: VERDICT,
        from: "verdict.attempt - case when verdict.outcome = 'snoozed' then 1 else 0 end, 0",
        to: "verdict.attempt, 0",
      },
    ],
    tests: [sqlTest("snooze")],
  },
  plant(
    "release-uses-attempt",
    "a release does not give the attempt back",
    VERDICT,
    ["verdict.attempt - 1, verdict.crashes", "verdict.attempt, verdict.crashes"],
    [sqlTest("release")],
  ),
  plant(
    "retries-without-limit",
    "a job is tried again however often it failed",
    VERDICT,
    ["and part.attempt <= job.max_retries as may_retry", "as may_retry"],
    [sqlTest("fail")],
  ),
  plant(
    "one-retry-too-few",
    "max_retries counts the first attempt",
    VERDICT,
    ["part.attempt <= job.max_retries as may_retry", "part.attempt < job.max_retries as may_retry"],
    [sqlTest("fail")],
  ),
  plant(
    "retryable-ignored",
    "an error that can't be mended by trying is tried again",
    VERDICT,
    ["coalesce(part.retryable, true) and", ""],
    [sqlTest("fail")],
  ),
  plant(
    "backoff-linear",
    "the delay does not double",
    SETTLE,
    ["power(2::double precision, least(p_retry_count, 60))", "(p_retry_count + 1)"],
    [sqlTest("fail")],
  ),
  plant(
    "backoff-without-cap",
    "the delay grows without end",
    SETTLE,
    [
      "least(p_base_ms * power(2::double precision, least(p_retry_count, 60)), p_cap_ms)",
      "(p_base_ms * power(2::double precision, least(p_retry_count, 60)))",
    ],
    [sqlTest("fail")],
  ),
  plant(
    "retry-without-jitter",
    "jobs that failed together come back together",
    VERDICT,
    ["        random()\n", "        0\n"],
    [sqlTest("fail")],
  ),
  plant(
    "jitter-always-full",
    "the delay may shrink to nothing whatever the settings say",
    VERDICT,
    [
      "round((job.options #>> '{backoff,jitter}')::numeric, 6)::double precision, type.backoff_jitter)",
      "1)",
    ],
    [sqlTest("fail")],
  ),
  plant(
    "cancellation-ignored",
    "a running job that somebody cancelled is tried again",
    VERDICT,
    ["when fact.is_cancelled then 'cancelled'", ""],
    [sqlTest("fail")],
  ),
  plant(
    "request-to-cancel-stays",
    "the wish to cancel outlives the job's completion",
    SETTLE,
    [
      "    delete from queue.cancellations as request where request.job_id = any (p_ids);\n  end if;\n  if exists (select from queue.dependencies",
      "    perform 1;\n  end if;\n  if exists (select from queue.dependencies",
    ],
    [race("cancel"), sqlTest("complete")],
  ),
  plant(
    "dead-letter-missing",
    "failed jobs leave no dead letter",
    VERDICT,
    ["where ended.status = 'failed'", "where ended.status = 'blocked'"],
    [sqlTest("fail")],
  ),
  plant(
    "error-text-unbounded",
    "an error of any size is stored whole",
    SETTLE,
    ["when pg_column_size(p_error) <= 32768 then case", "when true then case"],
    [sqlTest("hostile")],
  ),
];
