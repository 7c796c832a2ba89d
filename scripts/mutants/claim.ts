import { type Mutant, migration, PROPERTY, plant, race, sqlTest } from "./mutant.ts";

const FOUNDATION = migration("foundation");
const CLAIM = migration("claim");
const FAIR = migration("fair");
const LEASE = migration("lease");
const FEW = migration("few");

/** Bugs in how jobs are taken. */
export const CLAIM_MUTANTS: readonly Mutant[] = [
  {
    name: "claim-without-skip-locked",
    bug: "claimers wait for each other",
    edits: [{ file: CLAIM, from: "for update skip locked", to: "for update", every: true }],
    tests: [race("claim")],
  },
  {
    name: "claim-without-for-update",
    bug: "claimers choose tokens without locking them",
    edits: [{ file: CLAIM, from: "for update skip locked", to: "", every: true }],
    tests: [race("claim")],
  },
  {
    name: "attempt-counted-at-failure",
    bug: "a claim does not count the attempt, so a job that kills its worker is tried for ever",
    edits: [
      { file: CLAIM, from: "(taken.attempt + 1)::smallint", to: "taken.attempt", every: true },
      { file: FEW, from: "(taken.attempt + 1)::smallint", to: "taken.attempt", every: true },
      {
        file: LEASE,
        from: "returning id, attempt + 1, crashes",
        to: "returning id, attempt, crashes",
      },
    ],
    tests: [sqlTest("rescue")],
  },
  plant(
    "priority-inverted",
    "low goes before critical",
    FOUNDATION,
    [
      "when 'critical' then 0 when 'high' then 1 when 'normal' then 2 when 'low' then 3",
      "when 'critical' then 3 when 'high' then 2 when 'normal' then 1 when 'low' then 0",
    ],
    [sqlTest("claim")],
  ),
  plant(
    "priority-per-queue-only",
    "the queue with the oldest job goes first, whatever its priority",
    LEASE,
    [
      "order by drawn.priority, pass.number, drawn.lot, drawn.at\n    loop",
      "order by min(drawn.at) over (partition by drawn.queue_id), drawn.priority, pass.number\n    loop",
    ],
    [sqlTest("claim")],
  ),
  plant(
    "tenant-filter-missing-in-claim",
    "a claim for one tenant gets the jobs of all",
    LEASE,
    [
      "where p_tenant_id is null and token.queue_id = line.id and token.priority = rank.p",
      "where token.queue_id = line.id and token.priority = rank.p",
    ],
    [sqlTest("claim"), PROPERTY],
  ),
  plant(
    "tenant-filter-missing-in-fifo",
    "a claim for one tenant gets other tenants' jobs of a first-in-first-out queue",
    LEASE,
    ["then p_tenant_id end as filter_tenant_id", "then null::integer end as filter_tenant_id"],
    [sqlTest("claim-fair"), PROPERTY],
  ),
  plant(
    "type-filter-missing",
    "a worker gets jobs of types it can't handle",
    CLAIM,
    [
      "        and (p_type_ids is null or token.type_id = any (p_type_ids))\n        -- Not",
      "        -- Not",
    ],
    [sqlTest("claim"), PROPERTY],
  ),
  {
    name: "pause-ignored",
    bug: "paused queues are claimed from",
    edits: [{ file: CLAIM, from: "and not line.is_paused", to: "", every: true }],
    tests: [sqlTest("pause")],
  },
  {
    name: "due-time-ignored",
    bug: "scheduled jobs run at once",
    edits: [{ file: CLAIM, from: "token.at <= v_now", to: "token.at <= 'infinity'", every: true }],
    tests: [sqlTest("claim")],
  },
  plant(
    "fairness-off",
    "the tenant with the lowest number is served first",
    LEASE,
    ["if v_head.is_shared then", "if false then"],
    [sqlTest("claim-fair")],
  ),
  plant(
    "turn-cut-short",
    "a tenant whose turn was cut short by that of the tenant before it waits for the next round",
    FAIR,
    ["then array_position(next.lanes, next.lanes[next.n]) - 1", "then next.n"],
    [sqlTest("claim-fair")],
  ),
  plant(
    "turn-without-end",
    "in a large claim the first tenant takes all there is",
    FAIR,
    [
      "limit least(case when p_heavy is null then p_turn else v_turns[turn.stretch] end, p_limit - turn.n)",
      "limit p_limit - turn.n",
    ],
    [sqlTest("claim-fair")],
  ),
  plant(
    "long-turns-run-at-once",
    "where few tenants are left their jobs are claimed and run tenant by tenant",
    FAIR,
    [
      "order by (row_number() over (partition by taken.lane order by taken.at, taken.id) - 1) / p_step,\n      taken.lane <= p_after",
      "order by taken.lane <= p_after",
    ],
    [sqlTest("claim-fair")],
  ),
  plant(
    "suspect-leased-with-others",
    "a job that may have killed its worker takes others with it",
    LEASE,
    ["if 0 = all (v_crashes) then", "if true then"],
    [sqlTest("claim")],
  ),
  plant(
    "suspects-held-together",
    "a worker holds several jobs that were lost twice, and it can't be told which of them kills it",
    LEASE,
    ["held.worker_id = p_worker_id and held.crashes > 1", "false"],
    [sqlTest("suspects"), PROPERTY],
  ),
  plant(
    "queues-not-shared",
    "a tenant's job waits for the backlog of another tenant in another queue",
    LEASE,
    ["when v_head.lot is null or v_head.pass = 2 then v_rest", "when true then v_rest"],
    [sqlTest("claim-fair")],
  ),
  plant(
    "rest-goes-down",
    "what a queue leaves of its share goes to less urgent jobs",
    LEASE,
    ["case when drawn.lot is null then 1 else 2 end", "1"],
    [sqlTest("claim-fair")],
  ),
  plant(
    "claim-never-looks-back",
    "a full look goes on from where the last claim stopped",
    LEASE,
    ["v_head.at, 0, v_share);", "queue.clock() - interval '1 millisecond', 0, v_share);"],
    [sqlTest("claim"), sqlTest("marks"), race("claim")],
  ),
  plant(
    "frozen-clock",
    "time stands still inside a transaction",
    FOUNDATION,
    ["return pg_catalog.clock_timestamp();", "return pg_catalog.now();"],
    [race("clock")],
  ),
  plant(
    "lease-by-transaction-time",
    "leases are measured from the beginning of the transaction, not by the queue's clock",
    LEASE,
    ["o_expires_at := queue.clock() +", "o_expires_at := now() +"],
    [sqlTest("rescue"), sqlTest("claim"), PROPERTY],
  ),
  plant(
    "few-without-skip-locked",
    "where there is little to do claimers wait for each other",
    FEW,
    ["for update skip locked", "for update"],
    [race("claim")],
  ),
  plant(
    "few-ignores-pause",
    "where there is little to do a paused queue is served",
    FEW,
    [
      "and not (select line.is_paused from queue.queues as line where line.id = token.queue_id)",
      "",
    ],
    [sqlTest("pause"), PROPERTY],
  ),
  plant(
    "few-ignores-types",
    "where there is little to do a claim gets jobs of other types",
    FEW,
    ["and (p_type_ids is null or token.type_id = any (p_type_ids))", ""],
    [sqlTest("claim")],
  ),
  plant(
    "few-ignores-except",
    "where there is little to do the lane of all other queues serves those that have a lane",
    FEW,
    ["and (p_except is null or token.queue_id <> all (p_except))", ""],
    [sqlTest("advance")],
  ),
  plant(
    "few-ignores-queues",
    "where there is little to do a lane serves all queues",
    FEW,
    ["and (p_queue_ids is null or token.queue_id = any (p_queue_ids))", ""],
    [sqlTest("advance")],
  ),
  plant(
    "few-takes-more",
    "a claim brings more than it was to",
    FEW,
    ["count(*) <= p_limit and", "count(*) <= p_limit + 1 and"],
    [sqlTest("claim")],
  ),
  plant(
    "few-leases-suspects-together",
    "where there is little to do a job that was lost shares its lease",
    FEW,
    ["and not bool_or(token.crashes > 0)", ""],
    [sqlTest("claim"), sqlTest("suspects")],
  ),
  plant(
    "few-forgets-the-due",
    "while anything is pending no scheduled job becomes ready",
    FEW,
    [
      ") and not exists (select from queue.scheduled as due where due.at > v_from and due.at <= v_now) as is_all",
      ") as is_all",
    ],
    [sqlTest("claim"), PROPERTY],
  ),
  plant(
    "few-newest-first",
    "where there is little to do the newest job goes first",
    FEW,
    [
      "array_agg(taken.id order by taken.priority, taken.at, taken.id)",
      "array_agg(taken.id order by taken.priority, taken.at desc, taken.id)",
    ],
    [sqlTest("claim"), sqlTest("advance")],
  ),
  plant(
    "never-alone",
    "a worker never knows that it is the only one, and lets the database rest between its calls",
    migration("advance"),
    ["if cardinality(v_ids) = p_limit then", "if cardinality(v_ids) > p_limit then"],
    [sqlTest("advance")],
  ),
  plant(
    "always-alone",
    "busy workers don't know of each other, and make more calls than the database can run",
    migration("advance"),
    ["v_is_alone := queue.is_alone(p_worker);", "v_is_alone := true;"],
    [sqlTest("advance")],
  ),
];
