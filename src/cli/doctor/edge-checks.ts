import type { EdgeStatus } from "../../db/inspect-edge.ts";
import { countOf, distance } from "../output/words.ts";
import { ok, skipped, type Verdict, warning } from "./finding.ts";

/** The job that looks for work runs each minute or more often; after this long pg_cron has stopped. */
const STALE_MS = 600_000;
const INSTALL = "As the owner of the queue: select queue.install_cron()";

/** Whether an Edge worker can be rung. Where nothing of it is set up, long-lived workers are meant: no fault. */
export function checkDoorbell(edge: EdgeStatus): Verdict {
  const missing = [...(edge.pg_net ? [] : ["pg_net"]), ...(edge.vault ? [] : ["the Vault"])];
  if (missing.length > 0) {
    return skipped(
      `Without ${missing.join(" and ")} no Edge worker can be woken; long-lived workers need neither`,
    );
  }
  if (edge.is_ready) {
    return ok(`pg_net and both secrets are there; the bell is ${edge.is_armed ? "" : "not "}armed`);
  }
  if (!edge.has_url && !edge.has_token) {
    return skipped("The Vault holds no secrets of an Edge worker, so none is woken");
  }
  const secret = edge.has_url ? "queue_worker_token" : "queue_worker_url";
  return warning(
    `The Vault holds no ${secret}`,
    "Without it the Edge worker is not woken",
    `Put it there: select vault.create_secret('…', '${secret}')`,
  );
}

/** What became of the last calls of the Edge worker. */
export function checkRings({ last_ring, problems, checked_at }: EdgeStatus): Verdict {
  const [problem] = problems;
  if (problem) {
    return warning(
      problem.code === "doorbell_stuck"
        ? "The Edge worker is called, and the calls get no answer"
        : "The last call of the Edge worker failed",
      problem.message,
      "Look at: select * from queue.rings order by id desc limit 10",
    );
  }
  if (!last_ring) return skipped("No Edge worker was ever called");
  const when = distance(new Date(last_ring.at), new Date(checked_at));
  return last_ring.finished_at === null
    ? ok(`The Edge worker was called ${when}; its answer is not in yet`)
    : ok(`The Edge worker was called ${when} and answered HTTP ${last_ring.status_code}`);
}

/** Whether pg_cron looks for work and cleans up. */
export function checkCron(edge: EdgeStatus): Verdict {
  if (!edge.cron_jobs) {
    return edge.is_ready
      ? warning(
          "pg_cron is not in this database",
          "Nobody wakes the Edge worker when a job falls due or a call was lost",
          `create extension pg_cron. ${INSTALL}`,
        )
      : skipped("pg_cron is not in this database; long-lived workers keep the clock themselves");
  }
  const missing = edge.cron_wanted.filter(
    (name) => !edge.cron_jobs?.some((job) => job.name === name && job.active),
  );
  const isNeeded = missing.some((name) => ESSENTIAL.includes(name));
  if (isNeeded && !edge.is_ready) {
    return skipped("pg_cron has no jobs of ours; long-lived workers keep the clock themselves");
  }
  if (isNeeded) {
    return warning(
      `pg_cron does not run ${missing.join(", ")}`,
      "Nobody wakes the Edge worker when a job falls due or a call was lost",
      INSTALL,
    );
  }
  return checkRuns(edge.cron_jobs, new Date(edge.checked_at));
}

/** Without these an Edge worker is not woken in time. */
const ESSENTIAL: readonly string[] = ["millrace-process", "millrace-clean-up"];

function checkRuns(jobs: NonNullable<EdgeStatus["cron_jobs"]>, now: Date): Verdict {
  const failed = jobs.find((job) => job.last_run?.status === "failed");
  if (failed) {
    return warning(
      `The last run of ${failed.name} failed: ${failed.last_run?.message ?? "it said nothing"}`,
      "What it does is not done",
      "Look at: select * from cron.job_run_details order by runid desc limit 10",
    );
  }
  const last = jobs.find((job) => job.name === "millrace-process")?.last_run?.at;
  if (last === undefined) return ok(`${countOf(jobs.length, "job")} of pg_cron, none has run yet`);
  const when = distance(new Date(last), now);
  if (now.getTime() - Date.parse(last) > STALE_MS) {
    return warning(
      `pg_cron last looked for work ${when}`,
      "It has stopped, or has too many jobs to run",
      "Look at: select * from cron.job_run_details order by runid desc limit 10. A restart of the database starts pg_cron",
    );
  }
  return ok(`${countOf(jobs.length, "job")} of pg_cron, the last looked for work ${when}`);
}
