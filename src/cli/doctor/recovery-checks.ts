import {
  lastGeneration,
  type Repair,
  type ReplicationFacts,
  reconcile,
  replicationFacts,
} from "../../db/inspect-recovery.ts";
import type { Sql } from "../../db/sql.ts";
import { countOf, duration } from "../output/words.ts";
import { fault, ok, skipped, type Verdict, warning } from "./finding.ts";

/** After this long what a failover may have lost was looked for, or is not looked for any more. */
const RECENT_SECONDS = 86_400;
const FIX = "millrace doctor --fix";

/** Whether commits are confirmed by who should confirm them. */
export async function checkReplication(sql: Sql): Promise<Verdict> {
  return judgeReplication(await replicationFacts(sql));
}

export function judgeReplication(facts: ReplicationFacts): Verdict {
  const { isStandby, wanted, waiting, standbys, seesAll } = facts;
  if (isStandby) {
    return fault(
      "This server is a standby, which takes no writes",
      "Jobs can be looked at here, and neither enqueued nor run",
      "Use the address of the primary, or promote this server: select pg_promote()",
    );
  }
  const synchronous = standbys.filter(({ sync }) => sync === "sync" || sync === "quorum").length;
  if (waiting > 0 || (wanted !== "" && seesAll && synchronous === 0)) {
    return fault(
      waiting > 0
        ? `${countOf(waiting, "session")} ${waiting === 1 ? "waits" : "wait"} for a standby to confirm a commit`
        : `No standby of synchronous_standby_names (${wanted}) is connected`,
      "Until one confirms, no enqueue and no end of a job is acknowledged; statement_timeout does not end that wait",
      "Bring the standby back, or: alter system set synchronous_standby_names = ''; then: select pg_reload_conf()",
    );
  }
  if (standbys.length === 0) return ok("No standby is connected");
  return synchronous > 0
    ? ok(
        `${countOf(synchronous, "synchronous standby", "synchronous standbys")}: a failover loses nothing that was acknowledged`,
      )
    : ok(
        `${countOf(standbys.length, "standby", "standbys")}, asynchronous: a failover may lose what was acknowledged last`,
      );
}

/** How the server last started, as far as it matters to jobs. */
export async function checkStart(sql: Sql): Promise<Verdict> {
  const last = await lastGeneration(sql);
  if (!last) return skipped("This role may not look at that");
  const { cause, seconds_ago: ago, timeline, first_job_id: first } = last;
  const when = `${duration(ago * 1_000)} ago`;
  switch (cause) {
    case "promotion": {
      const ids = first === null ? "" : `; ids of new jobs go on from ${first}`;
      const message = `A standby was promoted ${when} (timeline ${timeline})${ids}`;
      if (ago > RECENT_SECONDS) return ok(message);
      return warning(
        message,
        "What was acknowledged just before may be missing, and what was done may be done again",
        "See docs/failover.md: look for the jobs that callers know and the queue does not",
      );
    }
    case "restore":
      return ago > RECENT_SECONDS
        ? ok(`Restored from a dump ${when}`)
        : warning(
            `Restored from a dump ${when}`,
            "What happened after the dump is unknown here: jobs that ended since run again",
            "See docs/failover.md: pause the queues of jobs that must not run twice, and look at them first",
          );
    case "crash":
      return ok(`The server started after a crash ${when}; every acknowledged job is there`);
    default:
      return ok(`The server started in good order ${when}`);
  }
}

/** Whether tables, sequences, policies and grants fit together. */
export async function checkRecords(sql: Sql): Promise<Verdict> {
  return judgeRecords(await reconcile(sql, { dryRun: true }));
}

function judgeRecords(found: readonly Repair[]): Verdict {
  if (found.length === 0) return ok("Jobs, sequences, policies and grants fit together");
  const lost = found.find(({ code }) => code === "jobs_nowhere");
  const message = found.map((one) => one.message).join("; ");
  const reason = lost
    ? "This database was changed by other means than the queue's functions, or its files are damaged"
    : "After a failover, a restore or a change of owner this can be";
  const fix = found.some((one) => one.is_repairable)
    ? `${FIX} tells what it would repair, and does it with --yes`
    : "See docs/failover.md";
  const isHarmless = found.every(({ code }) => code === "leases_of_strangers");
  return isHarmless ? warning(message, reason, fix) : fault(message, reason, fix);
}
