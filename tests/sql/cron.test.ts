/** The jobs of pg_cron: what is set up, as whom, and what they do. pg_cron is a stub; nothing runs by itself. */
import assert from "node:assert/strict";
import { before, it } from "node:test";
import type { TestDatabase } from "../support/database.ts";
import { migrationFiles } from "../support/prepare-cluster.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";
import { installCron } from "./supabase-stubs.ts";

interface Installed {
  readonly installed: readonly { name: string; schedule: string }[];
  readonly left_out: readonly { name: string; reason: string }[];
}

async function install({ sql }: TestDatabase): Promise<Installed> {
  const [row] = await sql<{ answer: Installed }[]>`select queue.install_cron() as answer`;
  return only(row).answer;
}

const SCHEDULES = [
  { name: "millrace-clean-up", schedule: "* * * * *" },
  { name: "millrace-cron-history", schedule: "30 3 * * *" },
  { name: "millrace-daily-analytics", schedule: "0 2 * * *" },
  { name: "millrace-maintenance", schedule: "* * * * *" },
  { name: "millrace-process", schedule: "10 seconds" },
  { name: "millrace-retention", schedule: "* * * * *" },
  { name: "millrace-weekly-payouts", schedule: "0 9 * * 1" },
];

/** Our jobs as pg_cron has them. */
async function jobs({ superSql }: TestDatabase) {
  const rows = await superSql<{ name: string; schedule: string; username: string }[]>`
    select jobname as name, schedule, username from cron.job order by jobname collate "C"`;
  return rows.map((row) => ({ ...row }));
}

describeOnEachServer("install_cron without pg_cron", (context) => {
  it("changes nothing, and says why", async () => {
    const answer = await install(context.db);
    const [gone] = await context.db.sql`select queue.uninstall_cron() as names`;

    assert.deepEqual(answer.installed, []);
    assert.deepEqual(
      answer.left_out.map(({ name }) => name).sort(),
      SCHEDULES.map(({ name }) => name),
    );
    assert.match(
      only(answer.left_out[0]).reason,
      /create extension pg_cron, then call queue\.install_cron\(\)/,
    );
    assert.deepEqual(gone?.["names"], []);
  });

  it("says so too where the role may not use it", async () => {
    await installCron(context.db);
    await context.db.superSql`revoke usage on schema cron from postgres`;

    const { left_out } = await install(context.db);

    assert.match(only(left_out[0]).reason, /grant usage on schema cron to postgres/);
  });
});

describeOnEachServer("install_cron with a pg_cron that knows seconds", (context) => {
  before(() => installCron(context.db));

  it("sets up all jobs as the caller, and twice is the same as once", async () => {
    const first = await install(context.db);
    const second = await install(context.db);

    assert.deepEqual(first, second);
    assert.deepEqual(first.left_out, []);
    assert.deepEqual(
      [...first.installed].sort((a, b) => (a.name < b.name ? -1 : 1)),
      SCHEDULES,
    );
    assert.deepEqual(
      await jobs(context.db),
      SCHEDULES.map((job) => ({ ...job, username: "postgres" })),
    );
  });

  it("takes out what is not wanted, and leaves the rest and what is not ours", async () => {
    await install(context.db);
    await context.db.sql`select cron.schedule('report', '0 1 * * *', 'select 1')`;

    const [row] = await context.db.sql<{ answer: Installed }[]>`
      select queue.install_cron(p_without => '{millrace-weekly-payouts, millrace-daily-analytics}') as answer`;
    const left = await jobs(context.db);
    const [gone] = await context.db.sql`select queue.uninstall_cron() as names`;

    assert.equal(only(row).answer.left_out.length, 2);
    assert.deepEqual(
      left.map(({ name }) => name),
      [
        "millrace-clean-up",
        "millrace-cron-history",
        "millrace-maintenance",
        "millrace-process",
        "millrace-retention",
        "report",
      ],
    );
    assert.equal(gone?.["names"].length, 5);
    assert.deepEqual(
      (await jobs(context.db)).map(({ name }) => name),
      ["report"],
    );
  });

  it("every command runs, and as often as it likes", async () => {
    const rows = await context.db.sql<{ command: string }[]>`select command from queue.cron_jobs()`;

    for (const { command } of [...rows, ...rows]) await context.db.sql.unsafe(command);

    const made = await context.db.sql`
      select type.name, count(*)::int as n from queue.jobs as job join queue.types as type on type.id = job.type_id
      group by type.name order by type.name`;
    assert.deepEqual(
      made.map((row) => ({ ...row })),
      [
        { name: "daily_analytics", n: 1 },
        { name: "weekly_payouts", n: 1 },
      ],
    );
  });

  it("a new day brings a new job of the day, a new week one of the week", async () => {
    const { sql } = context.db;
    const once = async (type: string, every: string): Promise<string> => {
      const [row] = await sql<{ id: string }[]>`select queue.enqueue_once(${type}, ${every}) as id`;
      return only(row).id;
    };
    const today = [await once("by_day", "day"), await once("by_week", "week")];
    await context.db.advance(7 * 86_400_000);
    const later = [await once("by_day", "day"), await once("by_week", "week")];

    assert.equal(new Set([...today, ...later]).size, 4);
    const { payload } = await rigOf(context.db).row(only(later[1]));
    assert.match(JSON.stringify(payload), /^\{"week":"\d{4}-W\d\d"\}$/);
  });

  it("its history of our jobs is kept for seven days, that of others for ever", async () => {
    const { sql, superSql } = context.db;
    await install(context.db);
    await sql`select cron.schedule('theirs', '0 1 * * *', 'select 1')`;
    await superSql`
      insert into cron.job_run_details (jobid, username, status, start_time, end_time)
      select job.jobid, job.username, run.status, queue.clock() - run.age, case when run.status = 'succeeded' then queue.clock() - run.age end
      from cron.job, (values
        ('succeeded', interval '8 days'), ('running', interval '8 days'), ('succeeded', interval '6 days')) as run (status, age)
      where job.jobname in ('millrace-process', 'theirs')`;

    const [row] = await sql`select queue.purge_cron_history() as n`;

    assert.equal(row?.["n"], 2);
    assert.equal((await superSql`select from cron.job_run_details`).length, 4);
  });

  it("is told of by edge_status, with each job's last run", async () => {
    const { superSql } = context.db;
    await install(context.db);
    await superSql`truncate cron.job_run_details`;
    await superSql`
      insert into cron.job_run_details (jobid, username, status, return_message, start_time)
      select job.jobid, job.username, run.status, run.message, queue.clock()
      from cron.job, (values (1, 'succeeded', '1 row'), (2, 'failed', 'boom'), (3, 'running', null)) as run (n, status, message)
      where job.jobname = 'millrace-process' order by run.n`;

    const [row] = await context.db.connectAs("service_role")`select queue.edge_status() as status`;

    const { pg_cron, cron_jobs } = only(row)["status"];
    const process = cron_jobs.find(({ name }: { name: string }) => name === "millrace-process");
    assert.equal(pg_cron, true);
    assert.equal(cron_jobs.length, SCHEDULES.length);
    assert.deepEqual([process.last_run.status, process.last_run.message], ["failed", "boom"]);
  });
});

describeOnEachServer("install_cron with a pg_cron before 1.5", (context) => {
  before(() => installCron(context.db, { seconds: false }));

  it("looks for work each minute instead, and says so", async () => {
    const { installed, left_out } = await install(context.db);

    assert.deepEqual(
      installed.find(({ name }) => name === "millrace-process")?.schedule,
      "* * * * *",
    );
    assert.deepEqual(
      left_out.map(({ name }) => name),
      ["millrace-process"],
    );
    assert.match(only(left_out[0]).reason, /knows no seconds/);
    assert.equal((await jobs(context.db)).length, SCHEDULES.length);
  });
});

describeOnEachServer(
  "the migrations where pg_cron is there",
  (context) => {
    it("set up its jobs, and come through where that fails", async () => {
      const files = await migrationFiles();
      const last = only(files.find(({ name }) => name.endsWith("_cron_install.sql"))).text;
      assert.equal(files.at(-1)?.text, last);
      await context.db.sql.unsafe(last);
      await installCron(context.db);
      await context.db.sql.unsafe(last);
      const installed = await jobs(context.db);
      await context.db.superSql`truncate cron.job`;
      await context.db.superSql`revoke select on cron.knows from public`;
      await context.db.superSql`drop function cron.schedule(text, text, text)`;
      await context.db.sql.unsafe(last);

      assert.equal(installed.length, SCHEDULES.length);
    });
  },
  { pooler: false },
);
