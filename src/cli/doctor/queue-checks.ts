import { isInstalledOtherwise } from "../../db/inspect-migrations.ts";
import {
  forbiddenFunctions,
  partitionsAhead,
  stuckLeases,
  workerFacts,
} from "../../db/inspect-queue.ts";
import { migrationStatus } from "../../db/migrate.ts";
import { queueHealth } from "../../db/operator-functions.ts";
import { SCHEMA_VERSION } from "../../db/schema-version.ts";
import type { Sql } from "../../db/sql.ts";
import { count, countOf } from "../output/words.ts";
import { fault, ok, type Verdict, warning } from "./finding.ts";

/** What a worker calls; see the grants of millrace_worker. */
const WORKER_FUNCTIONS = [
  "queue.advance",
  "queue.arm_bells",
  "queue.drop_old_partitions",
  "queue.enqueue_many",
  "queue.enqueue_one",
  "queue.extend_leases",
  "queue.forget_leases",
  "queue.heartbeat_worker",
  "queue.maintain",
  "queue.open_jobs",
  "queue.other_leases",
  "queue.register_worker",
  "queue.settle_one",
  "queue.unregister_worker",
];

const MIGRATE = "millrace migrate up";

/** `isServed`: a newer schema still serves this version. */
export function checkSchemaVersion(version: number | null, isServed: boolean): Verdict {
  if (version === SCHEMA_VERSION) return ok(`Schema version ${version}`);
  if (version === null) {
    return fault("The queue is not installed in this database", undefined, MIGRATE);
  }
  if (isServed) {
    return ok(
      `Schema version ${version}, which serves this program's version ${SCHEMA_VERSION} too`,
    );
  }
  return version > SCHEMA_VERSION
    ? fault(
        `Schema version ${version} is newer than this program knows (${SCHEMA_VERSION})`,
        "Somebody migrated the database with a newer millrace",
        "Update the millrace package",
      )
    : fault(`Schema version ${version} is older than ${SCHEMA_VERSION}`, undefined, MIGRATE);
}

export async function checkMigrations(sql: Sql): Promise<Verdict> {
  const missing = (await migrationStatus(sql)).filter((one) => !one.isApplied);
  if (missing.length === 0) return ok("Every migration is applied");
  if (await isInstalledOtherwise(sql)) {
    return warning(
      "The queue is installed, and no migration is recorded as applied",
      "It was installed by other means than millrace and the Supabase CLI; neither can bring it up to date like this",
      "Record the versions in supabase_migrations.schema_migrations; `millrace migrate status` lists them",
    );
  }
  return warning(
    `${countOf(missing.length, "migration")} ${missing.length === 1 ? "is" : "are"} not recorded as applied`,
    `The first is ${missing[0]?.version}_${missing[0]?.name}`,
    MIGRATE,
  );
}

export async function checkPrivileges(sql: Sql, user: string): Promise<Verdict> {
  const forbidden = await forbiddenFunctions(sql, WORKER_FUNCTIONS);
  if (forbidden.length === 0) return ok(`Role ${user} may run workers`);
  return fault(
    `Role ${user} may not execute ${forbidden.slice(0, 3).join(", ")}${forbidden.length > 3 ? ` and ${forbidden.length - 3} more` : ""}`,
    "A worker that connects as this role can't work",
    `grant millrace_worker to "${user}"`,
  );
}

export async function checkWorkers(sql: Sql): Promise<Verdict> {
  const { alive, pending, orphans } = await workerFacts(sql);
  if (alive === 0) {
    return pending
      ? warning(
          "No worker is alive, and jobs are pending",
          "Nobody runs them",
          "millrace work <app>",
        )
      : ok("No worker is alive, and no job is pending");
  }
  if (orphans.length === 0) return ok(`${countOf(alive, "worker")} alive`);
  const types = orphans.map(({ type, pending: jobs }) => `${type} (${count(jobs)})`);
  return warning(
    `No live worker handles ${types.slice(0, 5).join(", ")}`,
    "Their jobs stay pending until one does",
    "Run millrace work with an application that has handlers for these types",
  );
}

export async function checkLeases(sql: Sql): Promise<Verdict> {
  const { stuck, jobs } = await stuckLeases(sql);
  if (stuck === 0) return ok("No lease is stuck");
  return warning(
    `${countOf(stuck, "lease")} with ${countOf(jobs, "job")} ran out over a minute ago`,
    "Their worker died, and no other worker took the jobs back",
    "Start a worker, or: select cleanup_stuck_jobs()",
  );
}

/** What is wrong inside of live workers; see queue.worker_problems. */
const HANDLER_PROBLEMS: Readonly<Record<string, string>> = {
  event_loop_blocked: "Let the handler yield, move its work to a worker thread, or raise leaseMs",
  handlers_overrun: "Make the handler heed its signal; until it ends its slot is taken",
  long_runs: "See what it waits for; a `timeout` ends it the next time",
};

export async function checkHandlers(sql: Sql): Promise<Verdict> {
  const { problems } = await queueHealth(sql);
  const own = problems.filter(({ code }) => code in HANDLER_PROBLEMS);
  const [first] = own;
  if (!first) return ok("No handler blocks its worker or runs on after its end");
  const more = own.length === 1 ? "" : ` (and ${own.length - 1} more, see \`millrace stats\`)`;
  return warning(
    `${first.message}${more}`,
    "Jobs beside it wait, and may be lost to other workers",
    HANDLER_PROBLEMS[first.code] ?? "",
  );
}

export async function checkPartitions(sql: Sql): Promise<Verdict> {
  const ahead = await partitionsAhead(sql);
  if (ahead >= 2) return ok(`${countOf(ahead, "partition")} ahead`);
  const fix = "Start a worker, or: select queue.maintain()";
  return ahead === 0
    ? fault(
        "No partition is left for new jobs",
        "Once the ids of this one are used up, enqueue fails",
        fix,
      )
    : warning(
        "Only 1 partition is ahead",
        "Maintenance makes them, and nobody has run it lately",
        fix,
      );
}
