import { type Mutant, migration, plant, sqlTest } from "./mutant.ts";

const DOORBELL = migration("doorbell");
const RINGS = migration("rings");
const CRON = migration("cron");
const TICK = migration("tick");

/** Bugs in the doorbell of the Edge worker, its log, and the jobs of pg_cron. */
export const DOORBELL_MUTANTS: readonly Mutant[] = [
  plant(
    "edge-bell-not-looked-for",
    "an enqueue never rings the Edge worker",
    migration("enqueue"),
    ["or exists (select from queue.bells as bell where bell.queue_id = 0)", "or false"],
    [sqlTest("edge-bell")],
  ),
  plant(
    "edge-bell-deaf-to-bulk",
    "a bulk enqueue never rings the Edge worker",
    migration("enqueue_alike"),
    ["or exists (select from queue.bells as bell where bell.queue_id = 0)", "or false"],
    [sqlTest("edge-bell-ways")],
  ),
  plant(
    "edge-bell-kept",
    "a bell that rang stays armed, and every job posts",
    DOORBELL,
    ["null, null, queue.take_edge_bell())", "null, null, true)"],
    [sqlTest("edge-bell")],
  ),
  plant(
    "edge-bell-waited-for",
    "an enqueue waits for a transaction that rang and stays open",
    DOORBELL,
    [
      "bell.queue_id = 0 and bell.worker_id = 0 for update skip locked",
      "bell.queue_id = 0 and bell.worker_id = 0 for update",
    ],
    [sqlTest("edge-bell")],
  ),
  plant(
    "edge-bell-pruned",
    "maintenance takes the bell of the Edge worker for that of a worker that is gone",
    migration("maintain"),
    ["bell.worker_id <> 0 and ", ""],
    [sqlTest("edge-bell")],
  ),
  plant(
    "idle-tick-arms-nothing",
    "a tick that finds nothing to do leaves the bell as it is",
    TICK,
    ["    perform queue.arm_edge_bell();\n    return 'idle';", "    return 'idle';"],
    [sqlTest("edge-bell")],
  ),
  plant(
    "ring-fails-the-enqueue",
    "a pg_net that is broken makes the enqueue fail",
    DOORBELL,
    [
      "    when others then\n      -- The doorbell",
      "    when no_data_found then\n      -- The doorbell",
    ],
    [sqlTest("edge-bell")],
  ),
  plant(
    "token-in-the-log",
    "an error that quotes the request brings the token into warnings and the log",
    DOORBELL,
    ["replace(sqlerrm, coalesce(v_token, ''), '[token]')", "sqlerrm"],
    [sqlTest("edge-bell")],
  ),
  plant(
    "rings-not-coalesced",
    "many callers post as many times",
    DOORBELL,
    [
      "if not v_is_only or v_last.at between v_now - interval '1 second' and v_now then",
      "if false then",
    ],
    [sqlTest("doorbell")],
  ),
  {
    name: "open-ring-silences-others",
    bug: "a transaction that rang and stays open keeps everybody from ringing",
    edits: [
      {
        file: DOORBELL,
        from: "queue.try_guard('ring ' || v_second % 61);",
        to: "queue.try_guard('ring 0');",
      },
    ],
    tests: [sqlTest("doorbell")],
  },
  plant(
    "unsent-rings-pile-up",
    "each tick adds a post for a pg_net that sends none",
    DOORBELL,
    ["where request.id = v_last.request_id", "where false"],
    [sqlTest("doorbell")],
  ),
  plant(
    "work-not-due-rings",
    "the Edge worker is called though nothing is to be done",
    TICK,
    ["if not queue.has_due_work() then", "if false then"],
    [sqlTest("doorbell")],
  ),
  plant(
    "outcome-of-another-request",
    "after a crash a ring takes the answer of an older request with its number",
    RINGS,
    [" and response.created >= least(ring.at, v_now) - interval '1 minute'", ""],
    [sqlTest("rings")],
  ),
  plant(
    "rings-kept-for-ever",
    "the log of rings only grows",
    RINGS,
    ["if v_first.id < v_keep_from or v_first.at < v_now - interval '7 days' then", "if false then"],
    [sqlTest("rings")],
  ),
  plant(
    "two-payouts-a-week",
    "two runs in a week make two jobs",
    CRON,
    [", p_idempotency_key => p_type || ':' || v_period", ""],
    [sqlTest("cron")],
  ),
];
