/** What `millrace doctor` says of an Edge worker's doorbell, its rings and the jobs of pg_cron. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { checkCron, checkDoorbell, checkRings } from "../../src/cli/doctor/edge-checks.ts";
import type { CronJob, EdgeStatus } from "../../src/db/inspect-edge.ts";
import { answerRequests, installCron, installNet, installVault } from "../sql/supabase-stubs.ts";
import type { TestDatabase } from "../support/database.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { cli } from "./run.ts";

interface Finding {
  readonly check: string;
  readonly severity: string;
  readonly message: string;
  readonly reason: string | null;
  readonly fix: string | null;
}

const EDGE = ["doorbell", "rings", "cron"];

async function edgeFindings({ url }: TestDatabase): Promise<Finding[]> {
  const run = await cli(["doctor", "--json"], { env: { DATABASE_URL: url } });
  return run.json<{ findings: Finding[] }>().findings.filter(({ check }) => EDGE.includes(check));
}

const severities = (findings: readonly Finding[]): string[] =>
  findings.map(({ severity }) => severity);

describeWithDatabase("millrace doctor and the Edge worker", (context) => {
  it("a plain Postgres needs none of it: three lines of information", async () => {
    const findings = await edgeFindings(context.db);

    assert.deepEqual(severities(findings), ["skipped", "skipped", "skipped"]);
    assert.match(findings[0]?.message ?? "", /^Without pg_net and the Vault/);
    assert.match(findings[2]?.message ?? "", /^pg_cron is not in this database/);
  });

  it("extensions without secrets are no fault, half of the secrets are", async () => {
    await installNet(context.db);
    await installVault(context.db);
    const [none] = await edgeFindings(context.db);
    await context.db
      .superSql`insert into vault.secrets values ('queue_worker_url', 'https://x.example')`;
    const [half] = await edgeFindings(context.db);

    assert.deepEqual([none?.severity, half?.severity], ["skipped", "warning"]);
    assert.match(half?.fix ?? "", /queue_worker_token/);
  });

  it("the doorbell without pg_cron is half a thing", async () => {
    await context.db
      .superSql`insert into vault.secrets values ('queue_worker_token', 'open-sesame')`;

    const findings = await edgeFindings(context.db);

    assert.deepEqual(severities(findings), ["ok", "skipped", "warning"]);
    assert.ok(!JSON.stringify(findings).includes("open-sesame"));
  });

  it("finds that the jobs of pg_cron were not set up, and what mends that", async () => {
    await installCron(context.db);
    const missing = (await edgeFindings(context.db))[2];
    await context.db.sql`select queue.install_cron()`;
    const there = (await edgeFindings(context.db))[2];

    assert.deepEqual(
      [missing?.severity, missing?.fix],
      ["warning", "As the owner of the queue: select queue.install_cron()"],
    );
    assert.deepEqual(
      [there?.severity, there?.message],
      ["ok", "7 jobs of pg_cron, none has run yet"],
    );
  });

  it("tells what became of the last call", async () => {
    await context.db.sql`select public.enqueue_job('work'), public.trigger_queue_worker()`;
    await answerRequests(context.db, { status: 401 });
    await context.db.sql`select queue.collect_rings()`;
    const failed = (await edgeFindings(context.db))[1];
    await context.db.advance(2_000);
    await context.db.sql`select public.trigger_queue_worker()`;
    const underWay = (await edgeFindings(context.db))[1];
    await answerRequests(context.db);
    await context.db.sql`select queue.collect_rings()`;
    const well = (await edgeFindings(context.db))[1];

    assert.deepEqual(
      [failed?.severity, failed?.message],
      ["warning", "The last call of the Edge worker failed"],
    );
    assert.match(failed?.reason ?? "", /HTTP 401.*QUEUE_WORKER_TOKEN/);
    assert.equal(underWay?.severity, "warning", "one call under way does not mend the one before");
    assert.match(well?.message ?? "", /^The Edge worker was called .* ago and answered HTTP 202$/);
  });

  it("a worker's role may not look", async () => {
    const findings = await edgeFindings({
      ...context.db,
      url: await context.db.loginUrl("millrace_worker"),
    });

    assert.deepEqual(severities(findings), ["skipped", "skipped", "skipped"]);
  });
});

describe("what doctor says of an Edge worker", () => {
  const job = (name: string, change: Partial<CronJob> = {}): CronJob => ({
    name,
    schedule: "* * * * *",
    active: true,
    last_run: { at: "2026-01-01T11:59:50Z", status: "succeeded", message: null },
    ...change,
  });
  const jobs = [job("millrace-process"), job("millrace-clean-up")];
  const edge: EdgeStatus = {
    checked_at: "2026-01-01T12:00:00Z",
    pg_net: true,
    vault: true,
    pg_cron: true,
    has_url: true,
    has_token: true,
    is_ready: true,
    is_armed: true,
    last_ring: { at: "2026-01-01T11:59:50Z", reason: "tick", status_code: null, finished_at: null },
    problems: [],
    cron_jobs: jobs,
    cron_wanted: ["millrace-clean-up", "millrace-process", "millrace-weekly-payouts"],
  };

  it("all is well, also without the jobs that were not wanted", () => {
    assert.equal(
      checkDoorbell(edge).message,
      "pg_net and both secrets are there; the bell is armed",
    );
    assert.equal(
      checkRings(edge).message,
      "The Edge worker was called 10 s ago; its answer is not in yet",
    );
    assert.equal(checkCron(edge).message, "2 jobs of pg_cron, the last looked for work 10 s ago");
  });

  it("a call that never ends is told", () => {
    const problems = [{ code: "doorbell_stuck", message: "pg_net sleeps" }];

    assert.equal(checkRings({ ...edge, problems }).reason, "pg_net sleeps");
  });

  it("a job that is switched off, one that failed, and a pg_cron that stopped are told", () => {
    const late = { at: "2026-01-01T11:00:00Z", status: "succeeded", message: null };
    const failed = { at: "2026-01-01T11:59:00Z", status: "failed", message: "no such function" };
    const said = (changed: CronJob) =>
      checkCron({ ...edge, cron_jobs: [changed, job("millrace-clean-up")] }).message;

    assert.match(said(job("millrace-process", { active: false })), /does not run millrace-process/);
    assert.match(said(job("millrace-process", { last_run: failed })), /failed: no such function/);
    assert.match(said(job("millrace-process", { last_run: late })), /last looked for work 1 h ago/);
  });
});
