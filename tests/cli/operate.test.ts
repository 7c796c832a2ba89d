import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeWithDatabase } from "../support/suite.ts";
import { APP, type CliRun, cli } from "./run.ts";

describeWithDatabase("millrace jobs, queues, stats, why, redrive", (context) => {
  const millrace = (...argv: string[]): Promise<CliRun> =>
    cli(argv, { env: { DATABASE_URL: context.db.url } });

  const enqueue = async (...argv: string[]): Promise<string> =>
    (await millrace("enqueue", ...argv, "--json")).json<{ id: string }>().id;

  /** A job that has failed for good. */
  const deadLetter = async (): Promise<string> => {
    const id = await enqueue("test.doomed", "--max-retries", "0");
    const run = await millrace("work", APP, "--once");
    assert.equal(run.code, 0, run.err);
    return id;
  };

  beforeEach(async () => {
    await context.db.sql`select * from public.purge_jobs()`;
  });

  it("jobs list shows jobs newest first, and says where the older ones are", async () => {
    const first = await enqueue("list.mail", '{"n":1}', "--tenant", "acme");
    const second = await enqueue("list.mail", '{"n":2}', "--in", "2h");

    const text = await millrace("jobs", "list", "--type", "list.mail");
    const page = await millrace("jobs", "list", "--type", "list.mail", "--limit", "1");
    const json = await millrace("jobs", "list", "--type", "list.mail", "--json");

    assert.equal(text.code, 0);
    assert.match(
      text.out,
      new RegExp(`${second} +list.mail +◷ scheduled[\\s\\S]*${first} +list.mail +· pending .*acme`),
    );
    assert.match(text.out, /due in 1 h/);
    assert.equal(page.err, `older ones: --before ${second}\n`);
    const { jobs, next_before } = json.json<{
      jobs: { id: string; payload: unknown }[];
      next_before: null;
    }>();
    assert.deepEqual(
      jobs.map((job) => job.id),
      [second, first],
    );
    assert.deepEqual(jobs[1]?.payload, { n: 1 });
    assert.equal(next_before, null);
  });

  it("jobs list filters by status and tenant, and says when nothing matches", async () => {
    await enqueue("filter.mail", "{}", "--tenant", "acme");

    const other = await millrace("jobs", "list", "--type", "filter.mail", "--tenant", "nobody");
    const status = await millrace(
      "jobs",
      "list",
      "--type",
      "filter.mail",
      "--status",
      "completed",
      "--json",
    );

    assert.deepEqual([other.code, other.out, other.err], [0, "", "No job matches.\n"]);
    assert.deepEqual(status.json(), { jobs: [], next_before: null });
  });

  it("jobs show tells a job's facts, payload, error and history", async () => {
    const id = await deadLetter();

    const text = await millrace("jobs", "show", id);
    const json = await millrace("jobs", "show", id, "--json");

    assert.match(text.out, new RegExp(`^✗ test.doomed #${id} {2}failed`));
    assert.match(text.out, /attempt +1 of 1/);
    assert.match(text.out, /it can't be done/);
    assert.match(text.out, /▸ processing +1\n.*✗ failed +1 +it can't be done/);
    const { job, history } = json.json<{
      job: { id: string; status: string };
      history: { to_status: string }[];
    }>();
    assert.deepEqual([job.id, job.status], [id, "failed"]);
    assert.deepEqual(
      history.map((step) => step.to_status),
      ["pending", "processing", "failed"],
    );
  });

  it("jobs cancel cancels waiting jobs and refuses those that have ended", async () => {
    const waiting = await enqueue("cancel.mail");
    const ended = await deadLetter();

    const text = await millrace("jobs", "cancel", waiting, ended, "--reason", "not needed");
    const json = await millrace("jobs", "cancel", waiting, "999999", "--json");

    assert.equal(text.code, 1);
    assert.equal(
      text.out,
      `✓ Job ${waiting} is cancelled\n✗ Job ${ended} has ended already: failed\n`,
    );
    assert.equal(json.code, 1);
    assert.deepEqual(json.json(), {
      results: [
        { id: waiting, ok: true, status: "cancelled", message: "is cancelled" },
        { id: "999999", ok: false, status: null, message: "does not exist" },
      ],
    });
    const why = await millrace("why", waiting);
    assert.match(why.out, /not needed/);
  });

  it("jobs retry runs a scheduled job now and a failed one again, and tells why it can't", async () => {
    const later = await enqueue("retry.mail", "{}", "--in", "1h");
    const dead = await deadLetter();
    const blocked = await enqueue("retry.mail", "{}", "--depends-on", later);

    const text = await millrace("jobs", "retry", later, dead);
    const refused = await millrace("jobs", "retry", blocked);
    const json = await millrace("jobs", "retry", dead, "--json");

    assert.deepEqual(
      [text.code, text.out],
      [0, `✓ Job ${later} may run now\n✓ Job ${dead} may run now\n`],
    );
    assert.deepEqual(
      [refused.code, refused.out],
      [1, `✗ Job ${blocked} waits for other jobs: ${later}\n`],
    );
    assert.deepEqual(json.json<{ results: { status: string }[] }>().results[0]?.status, "pending");
    await millrace("jobs", "cancel", later, dead);
  });

  it("redrive tells what it would do, and does it only with --yes", async () => {
    const id = await deadLetter();
    const filter = ["redrive", "--type", "test.doomed", "--id", id];

    const plan = await millrace(...filter);
    const planned = await millrace(...filter, "--json");
    const tooYoung = await millrace(...filter, "--older-than", "1h");
    const statusBefore = await millrace("why", id, "--json");
    const done = await millrace(...filter, "--yes", "--json");
    const again = await millrace(...filter, "--yes");

    assert.match(plan.out, new RegExp(`1 +test.doomed +\\d+ s ago +${id} +it can't be done`));
    assert.match(plan.err, /1 dead letter would run again.*--yes/);
    assert.deepEqual(
      planned.json<{ dry_run: boolean; jobs: { id: string }[] }>().jobs.map((job) => job.id),
      [id],
    );
    assert.equal(tooYoung.err, "No dead letter matches.\n");
    assert.equal(statusBefore.json()["status"], "failed");
    assert.deepEqual(done.json<{ dry_run: boolean }>().dry_run, false);
    assert.equal((await millrace("why", id, "--json")).json()["status"], "pending");
    assert.equal(again.out, "No dead letter matches.\n");
    await millrace("jobs", "cancel", id);
  });

  it("queues shows how full they are; pause and resume say whether that changed anything", async () => {
    await enqueue("queues.mail");

    const paused = await millrace("queues", "pause", "queues.mail", "--reason", "provider down");
    const twice = await millrace("queues", "pause", "queues.mail", "--json");
    const list = await millrace("queues");
    const json = await millrace("queues", "list", "--json");
    const why = await millrace("why", await enqueue("queues.mail"));
    const resumed = await millrace("queues", "resume", "queues.mail");

    assert.equal(paused.out, "✓ Queue queues.mail is paused; jobs that run go on\n");
    assert.deepEqual(twice.json(), { queue: "queues.mail", is_paused: true, changed: false });
    assert.match(list.out, /queues.mail +paused +1 +· +· +· +·/);
    const row = json
      .json<{ queues: { queue: string; pending: number }[] }>()
      .queues.find((one) => one.queue === "queues.mail");
    assert.equal(row?.pending, 1);
    assert.match(
      why.out,
      /paused since .*provider down[\s\S]*→ millrace queues resume queues.mail/,
    );
    assert.equal(resumed.out, "✓ Queue queues.mail is running again\n");
  });

  it("stats tells health, totals and rates", async () => {
    await deadLetter();

    const text = await millrace("stats");
    const json = await millrace("stats", "--json");

    assert.equal(text.code, 0);
    assert.match(text.out, /workers +0 alive/);
    assert.match(text.out, /dead letters +1\n/);
    const { totals, health } = json.json<{
      totals: Record<string, number>;
      health: { schema_version: number };
    }>();
    assert.equal(totals["dead_letters"], 1);
    assert.equal(health.schema_version, 1);
  });

  it("why explains a job that nobody can run, and says what to do", async () => {
    const id = await enqueue("why.mail", "{}", "--in", "90m");

    const text = await millrace("why", id);
    const json = await millrace("why", id, "--json");

    assert.match(text.out, new RegExp(`^◷ Job ${id} is scheduled\n  It is due at `));
    assert.match(text.out, new RegExp(`→ millrace jobs retry ${id}`));
    assert.match(text.out, /No live worker for its type why.mail/);
    const { status, reasons } = json.json<{ status: string; reasons: { code: string }[] }>();
    assert.deepEqual(
      [status, reasons.map((reason) => reason.code)],
      ["scheduled", ["not_due", "no_live_worker"]],
    );
  });

  it("a terminal gets colours, and NO_COLOR takes them away", async () => {
    const id = await enqueue("colour.mail");
    const seen = async (env: Record<string, string>): Promise<string> => {
      let text = "";
      const onText = (one: string): void => {
        text += one;
      };
      await cli(["why", id], {
        env: { DATABASE_URL: context.db.url, ...env },
        isTerminal: true,
        onText,
      });
      return text;
    };

    assert.ok((await seen({})).includes("\u001b[1mpending"));
    assert.ok(!(await seen({ NO_COLOR: "1" })).includes("\u001b"));
  });
});
