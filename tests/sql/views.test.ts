/** The views job_queue, queue_jobs and job_dead_letter: what each tells of a job in every status. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type JobRow, only, rigOf } from "./rig.ts";

/** What the view tells of an attempt and its end. */
function facts(job: JobRow) {
  return {
    status: job.status,
    attempts: job.attempts,
    started: job.started_at !== null,
    finished: job.finished_at !== null,
    worker: job.worker_id,
    error: job.last_error,
    result: job.result,
  };
}

const UNTOUCHED = {
  attempts: 0,
  started: false,
  finished: false,
  worker: null,
  error: null,
  result: null,
};

describeOnEachServer("job_queue", (context) => {
  it("tells of a pending job when it came", async () => {
    const { enqueue, row } = rigOf(context.db);

    const job = await row(await enqueue("pending"));

    assert.deepEqual(facts(job), { ...UNTOUCHED, status: "pending" });
    assert.deepEqual(job.scheduled_at, job.created_at);
  });

  it("tells of a scheduled job when it is due", async () => {
    const { enqueue, row, inMs } = rigOf(context.db);
    const scheduledAt = await inMs(60_000);

    const job = await row(await enqueue("later", { scheduledAt }));

    assert.deepEqual(facts(job), { ...UNTOUCHED, status: "scheduled" });
    assert.deepEqual(job.scheduled_at, scheduledAt);
  });

  it("tells of a blocked job on which others it depends, also after they ended", async () => {
    const { enqueue, start, complete, row } = rigOf(context.db);
    const first = await start("parent-a");
    const second = await enqueue("parent-b");
    const child = await enqueue("child", { dependsOn: [second, first.id] });

    const before = await row(child);
    await complete(first);
    const after = await row(child);

    assert.deepEqual(facts(before), { ...UNTOUCHED, status: "blocked" });
    assert.deepEqual(before.depends_on, [first.id, second].sort());
    assert.deepEqual(after.depends_on, before.depends_on);
  });

  it("tells of a running job who has it, since when, and which attempt it is", async () => {
    const { start, row } = rigOf(context.db);

    const job = await row((await start("running", {}, { worker: "ann" })).id);

    assert.deepEqual(facts(job), {
      ...UNTOUCHED,
      status: "processing",
      attempts: 1,
      started: true,
      worker: "ann",
    });
    assert.ok(job.started_at && job.started_at >= job.created_at);
  });

  it("tells of a completed job its result, its worker and its times", async () => {
    const { start, complete, row } = rigOf(context.db);
    const held = await start("done", {}, { worker: "bob" });
    await context.db.advance(2000);
    await complete(held, { pages: 3 });

    const job = await row(held.id);

    assert.deepEqual(facts(job), {
      status: "completed",
      attempts: 1,
      started: true,
      finished: true,
      worker: "bob",
      error: null,
      result: { pages: 3 },
    });
    assert.ok(job.finished_at && job.started_at);
    assert.ok(job.finished_at.getTime() - job.started_at.getTime() >= 2000);
  });

  it("tells of a job between retries what went wrong and when it runs again", async () => {
    const { start, fail, row } = rigOf(context.db);
    const held = await start("retried");
    await fail(held, "no route", { after: 90 });

    const job = await row(held.id);

    assert.equal(job.status, "scheduled");
    assert.deepEqual(
      [job.attempts, job.last_error, job.error, job.finished_at],
      [1, "no route", { message: "no route" }, null],
    );
    assert.ok(job.scheduled_at.getTime() - (await context.db.now()).getTime() > 80_000);
  });

  it("keeps the last error in sight while the retry runs, and drops it when that succeeds", async () => {
    const { start, fail, take, complete, row } = rigOf(context.db);
    const first = await start("second-time");
    await fail(first, "once", { after: 0 });
    const second = await take("second-time");

    const running = await row(first.id);
    await complete(second, "well");
    const done = await row(first.id);

    assert.deepEqual(
      [running.status, running.attempts, running.last_error],
      ["processing", 2, "once"],
    );
    assert.deepEqual(
      [done.status, done.attempts, done.last_error, done.error, done.result],
      ["completed", 2, null, null, "well"],
    );
  });

  it("tells of a failed job its error", async () => {
    const { bury, row } = rigOf(context.db);

    const job = await row(await bury("failed", {}, "card declined"));

    assert.deepEqual(
      [job.status, job.attempts, job.last_error, job.finished_at !== null],
      ["failed", 1, "card declined", true],
    );
  });

  it("tells of a job that was cancelled before it ran why, and no start", async () => {
    const { enqueue, row, sql } = rigOf(context.db);
    const id = await enqueue("cancelled");
    await sql`select public.cancel_job(${id}, 'ordered twice')`;

    const job = await row(id);

    assert.deepEqual(facts(job), {
      ...UNTOUCHED,
      status: "cancelled",
      finished: true,
      error: "ordered twice",
    });
  });

  it("gives the attempt back to a job that was snoozed or released, without an error", async () => {
    const { start, settle, row } = rigOf(context.db);
    const snoozed = await start("snoozed");
    const released = await start("released");
    await settle(snoozed, { outcome: "snoozed", detail: { delay_ms: 60_000, reason: "busy" } });
    await settle(released, { outcome: "released", detail: { reason: "stopping" } });

    const jobs = [await row(snoozed.id), await row(released.id)];

    assert.deepEqual(
      jobs.map((job) => [job.status, job.attempts, job.last_error]),
      [
        ["scheduled", 0, null],
        ["pending", 0, null],
      ],
    );
  });

  it("tells of a job that lost its worker which one that was", async () => {
    const { start, row, sql } = rigOf(context.db);
    const held = await start("lost", {}, { worker: "carl", seconds: 1 });
    await context.db.advance(2000);
    await sql`select public.cleanup_stuck_jobs()`;

    const job = await row(held.id);

    assert.deepEqual([job.status, job.attempts, job.worker_id], ["pending", 1, "carl"]);
    assert.match(job.last_error ?? "", /worker carl did not finish/);
  });

  it("forgets the error of a job that was redriven, and its attempts", async () => {
    const { bury, row, sql } = rigOf(context.db);
    const id = await bury("redriven", {}, "gone");
    await sql`select from public.redrive_jobs(array[${id}]::bigint[])`;

    const job = await row(id);

    assert.deepEqual(
      [job.status, job.attempts, job.last_error, job.finished_at],
      ["pending", 0, null, null],
    );
  });

  it("shows the progress that was reported last", async () => {
    const { start, row, sql } = rigOf(context.db);
    const held = await start("progress");
    await sql`select public.report_progress(${held.id}, 10, 'begun', '{"page": 1}')`;
    await sql`select public.report_progress(${held.id}, 55.5)`;

    const job = await row(held.id);

    assert.deepEqual(
      [job.progress_percent, job.progress_message, job.progress_data],
      ["55.50", "begun", { page: 1 }],
    );
  });

  it("has one row for each job of a batch that is settled in part", async () => {
    const { enqueue, claim, complete, fail, sql } = rigOf(context.db);
    for (const n of [1, 2, 3, 4]) await enqueue("batch", { payload: n });
    const [a, b] = await claim("batch", { batch: 4 });
    await complete(only(a));
    await fail(only(b), "no", { after: 60 });

    const rows = await sql<JobRow[]>`
      select * from public.job_queue where type = 'batch' order by id`;

    assert.deepEqual(
      rows.map((job) => [job.payload, job.status, job.attempts]),
      [
        [1, "completed", 1],
        [2, "scheduled", 1],
        [3, "processing", 1],
        [4, "processing", 1],
      ],
    );
  });

  it("tells who has a job now, though the batch it was in before is still at work", async () => {
    const { enqueue, claim, take, fail, sql } = rigOf(context.db);
    for (const _ of [1, 2]) await enqueue("twice");
    const [first] = await claim("twice", { batch: 2, worker: "ann" });
    await fail(only(first), "no", { after: 0 });
    await take("twice", { worker: "bob" });

    const rows = await sql<JobRow[]>`
      select * from public.job_queue where type = 'twice' order by id`;

    assert.deepEqual(
      rows.map((job) => [job.status, job.attempts, job.worker_id]),
      [
        ["processing", 2, "bob"],
        ["processing", 1, "ann"],
      ],
    );
  });
});

describeOnEachServer("queue_jobs", (context) => {
  it("tells the same of a job in its own words", async () => {
    const { start, fail, complete, take, row, sql } = rigOf(context.db);
    const held = await start("words", {
      tenant: "acme",
      priority: "high",
      maxRetries: 2,
      payload: [1],
    });
    await fail(held, "once", { after: 0 });
    const retried = await sql`select * from public.queue_jobs where id = ${held.id}`;
    await complete(await take("words"), { ok: true });

    const [job] = await sql`select * from public.queue_jobs where id = ${held.id}`;

    assert.deepEqual(
      [retried[0]?.["status"], retried[0]?.["error_message"]],
      ["scheduled", "once"],
    );
    const same = await row(held.id);
    assert.deepEqual(
      { ...job },
      {
        id: held.id,
        job_type: "words",
        status: "completed",
        tenant_id: "acme",
        priority: "high",
        payload: [1],
        attempts: 2,
        max_attempts: 3,
        error_message: null,
        result: { ok: true },
        scheduled_at: same.scheduled_at,
        created_at: same.created_at,
        started_at: same.started_at,
        completed_at: same.finished_at,
      },
    );
  });
});

describeOnEachServer("job_dead_letter", (context) => {
  it("keeps the facts of a failed job and the error of every attempt", async () => {
    const { start, fail, take, row, sql } = rigOf(context.db);
    const first = await start("dead", {
      payload: { to: "ada" },
      tenant: "acme",
      priority: "low",
      queue: "slow",
      maxRetries: 1,
      options: { timeout_ms: 10 },
    });
    await fail(first, "try 1", { after: 0 });
    await fail(await take("dead"), "try 2");

    const [dead] = await sql`select * from public.job_dead_letter where id = ${first.id}`;

    const { errors, fingerprint, failed_at, created_at, ...plain } = only(dead);
    assert.deepEqual(plain, {
      id: first.id,
      type: "dead",
      queue: "slow",
      priority: "low",
      payload: { to: "ada" },
      tenant_id: "acme",
      attempts: 2,
      max_retries: 1,
      last_error: "try 2",
      redrive_count: 0,
      options: { timeout_ms: 10 },
    });
    assert.deepEqual(
      errors.map((one: Record<string, unknown>) => [one["attempt"], one["outcome"], one["error"]]),
      [
        [1, "failed", { message: "try 1" }],
        [2, "failed", { message: "try 2" }],
      ],
    );
    assert.match(fingerprint, /^[0-9a-f]{32}$/);
    const job = await row(first.id);
    assert.deepEqual([created_at, failed_at], [job.created_at, job.finished_at]);
  });

  it("counts how often a job was redriven, and keeps the errors of before", async () => {
    const { bury, take, fail, sql } = rigOf(context.db);
    const id = await bury("again", {}, "first life");
    await sql`select from public.redrive_jobs(array[${id}]::bigint[])`;
    await fail(await take("again"), "second life", { retryable: false });

    const [dead] = await sql`select * from public.job_dead_letter where id = ${id}`;

    const { redrive_count, last_error, errors, attempts } = only(dead);
    assert.deepEqual([redrive_count, last_error, attempts], [1, "second life", 1]);
    assert.deepEqual(
      errors.map((one: { error: { message: string } }) => one.error.message),
      ["first life", "second life"],
    );
  });

  it("gives errors that differ only in numbers, ids and quotes one fingerprint, and others another", async () => {
    const { bury, sql } = rigOf(context.db);
    await bury("print", {}, "order 17 of 'ada' not found");
    await bury("print", {}, `order 99 of "bob" not found`);
    await bury("print", {}, "no such customer");

    const rows = await sql`
      select fingerprint, count(*)::integer as n from public.job_dead_letter
      where type = 'print' group by 1 order by n`;

    assert.deepEqual(
      rows.map((row) => row["n"]),
      [1, 2],
    );
  });

  it("holds no job that was redriven, retried, or never failed", async () => {
    const { bury, start, complete, sql } = rigOf(context.db);
    const redriven = await bury("gone");
    const retried = await bury("gone");
    await sql`select from public.redrive_jobs(array[${redriven}]::bigint[])`;
    await sql`select public.retry_job(${retried})`;
    await complete(await start("gone-too"));

    const rows = await sql`select id from public.job_dead_letter where type like 'gone%'`;

    assert.equal(rows.length, 0);
  });
});
