/** What becomes of a job by the answer of the function it was sent to, and by what that reports later. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { defineJob } from "../../src/http/index.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { clockAt } from "./clock-at.ts";
import { reply } from "./function-server.ts";
import { ADDRESS, workerRig } from "./worker-rig.ts";

describeWithDatabase("the functions that the queue worker calls", (context) => {
  const rig = workerRig(context);

  it("keeps with the attempt which function was called and what it answered", async () => {
    rig.functions.answer((_call, response) => reply(response, 500, { error: "out of ink" }));
    const { id } = await rig.queue.enqueue(defineJob("ingest_slack", { maxRetries: 0 }), {});

    const report = await rig.run(rig.workerOf());

    assert.equal(report.failed, 1);
    const [row] = await context.db.superSql`
      select error ->> 'message' as message, note from queue.runs where job_id = ${id}`;
    assert.equal(row?.["message"], "Function execution failed: out of ink. Check function logs.");
    const { duration_ms: duration, ...note } = row?.["note"] ?? {};
    assert.deepEqual([note.function, note.status], ["ingest-slack", 500]);
    assert.ok(duration >= 0);
  });

  it("believes a function that answers 202 and reports the end later", async () => {
    const worker = rig.workerOf();
    const job = defineJob("ingest_slack");
    const [one, two] = [await rig.queue.enqueue(job, {}), await rig.queue.enqueue(job, {})];
    const callbacks: Record<string, { url: string; token: string }> = {};
    rig.functions.answer((call, response) => {
      const { id, callback } = JSON.parse(call.body);
      callbacks[id] = callback;
      response.writeHead(202).end();
    });
    const tell = (id: string, body: unknown, token = callbacks[id]?.token): Promise<Response> =>
      rig.report(worker, token ?? "", body);

    const done = await rig.run(worker);

    assert.deepEqual([done.handed_over, done.completed, done.lost], [2, 0, 0]);
    assert.equal(callbacks[one.id]?.url, `${ADDRESS}?action=report`);
    assert.equal((await rig.queue.get(one)).status, "processing");
    assert.equal((await tell(one.id, { report: "progress", percent: 40 })).status, 200);
    assert.equal((await tell(one.id, { report: "extend", seconds: 60 })).status, 200);
    assert.equal((await tell(one.id, { report: "complete", result: { n: 1 } })).status, 200);
    assert.deepEqual(await one.result(), { n: 1 });
    assert.equal((await tell(one.id, { report: "complete" })).status, 409);
    assert.equal(
      (await tell(two.id, { report: "complete" }, callbacks[one.id]?.token)).status,
      409,
    );
    assert.equal((await tell(two.id, { report: "complete" }, "1.2.x")).status, 401);
    const failed = await tell(two.id, { report: "fail", error: "no\u0000ink", retryable: false });
    assert.equal(failed.status, 200);
    assert.equal((await rig.queue.get(two)).status, "failed");
  });

  it("tries a job again whose function never reports, and charges it", async () => {
    const job = defineJob("ingest_slack", { maxRetries: 0 });
    const [one] = [await rig.queue.enqueue(job, {}), await rig.queue.enqueue(job, {})];
    rig.functions.answer((_call, response) => response.writeHead(202).end());
    await rig.run(rig.workerOf({ reportMs: 60_000 }));

    await context.db.advance(61_000);
    await context.db.superSql`select public.cleanup_stuck_jobs()`;

    const { status } = await rig.queue.get(one);
    assert.equal(status, "failed");
  });

  it("does not take the time until a function reports for the time that a run needs", async () => {
    const job = defineJob("report_late");
    await rig.queue.enqueue(job, {});
    const worker = rig.workerOf();
    let token = "";
    rig.functions.answer((call, response) => {
      token = JSON.parse(call.body).callback.token;
      response.writeHead(202).end();
    });
    await rig.run(worker);
    await context.db.advance(60_000);
    await rig.report(worker, token, { report: "complete" });
    await rig.queue.enqueue(job, {});

    const { handed_over, ended } = await rig.run(
      rig.workerOf({ lifeMs: 30_000, clock: clockAt(10_000) }),
    );

    assert.deepEqual([handed_over, ended], [1, "idle"]);
  });

  it("tells a function that its job was cancelled, and ends it", async () => {
    const job = await rig.queue.enqueue(defineJob("report_late"), {});
    const worker = rig.workerOf();
    let token = "";
    rig.functions.answer((call, response) => {
      token = JSON.parse(call.body).callback.token;
      response.writeHead(202).end();
    });
    await rig.run(worker);
    await rig.queue.cancel(job);

    const response = await rig.report(worker, token, { report: "extend", seconds: 60 });

    assert.equal(response.status, 409);
    assert.equal((await rig.queue.get(job)).status, "cancelled");
  });

  it("fails a job at once whose function wants to report later and can't", async () => {
    const job = await rig.queue.enqueue(defineJob("report_late"), {});
    rig.functions.answer((_call, response) => response.writeHead(202).end());

    await rig.run(rig.workerOf({ callback: { url: "https://worker.test/", secrets: [] } }));

    const [row] = await context.db.superSql`
      select status, last_error from public.job_queue where id = ${job.id}`;
    assert.equal(row?.["status"], "failed");
    assert.match(row?.["last_error"], /^report-late answered 202, .+ set QUEUE_CALLBACK_SECRET/);
  });

  it("sends a trace of its own with each attempt, and keeps its id", async () => {
    const { id } = await rig.queue.enqueue(defineJob("ingest_slack"), {});

    await rig.run(rig.workerOf());

    const sent = String(rig.functions.heard[0]?.headers["traceparent"]);
    assert.match(sent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    const [row] = await context.db.superSql`
      select note ->> 'trace_id' as trace from queue.runs where job_id = ${id}`;
    assert.equal(row?.["trace"], sent.split("-")[1]);
  });

  it("sends many jobs in one call where the route says so, and reads an answer for each", async () => {
    await context.db.superSql`select public.set_job_route('measure', p_batch => 10)`;
    const job = defineJob<{ n: number }>("measure", { maxRetries: 0 });
    const jobs = await rig.queue.enqueueMany(job, [{ n: 1 }, { n: 2 }, { n: 3 }]);
    rig.functions.answer((call, response) => {
      const sent = JSON.parse(call.body).jobs as { payload: { n: number } }[];
      reply(
        response,
        200,
        sent.map(({ payload: { n } }) => (n === 2 ? { error: "too short" } : { result: n * 10 })),
      );
    });

    const done = await rig.run(rig.workerOf());

    assert.deepEqual([done.completed, done.failed, rig.functions.heard.length], [2, 1, 1]);
    assert.equal(rig.functions.heard[0]?.path, "/functions/v1/measure");
    assert.equal(await jobs[2]?.result(), 30);
    const rows = await context.db.superSql`
      select run.error ->> 'message' as message, run.note ->> 'batch' as batch from queue.runs as run
      where run.job_id = ${jobs[1]?.id ?? 0}`;
    assert.deepEqual(
      rows.map((row) => ({ ...row })),
      [{ message: "Function execution failed: too short. Check function logs.", batch: "3" }],
    );
    await context.db.superSql`select public.remove_job_route('measure')`;
  });

  it("takes any other answer to a batch for all of its jobs", async () => {
    await context.db.superSql`select public.set_job_route('measure', p_batch => 2)`;
    const job = defineJob<{ n: number }>("measure", { maxRetries: 0 });
    const answers: [number, unknown][] = [
      [500, { error: "out of order" }],
      [200, ["just one"]],
      [202, null],
    ];
    const seen: unknown[] = [];
    for (const [status, body] of answers) {
      const jobs = await rig.queue.enqueueMany(job, [{ n: 1 }, { n: 2 }]);
      rig.functions.answer((_call, response) => reply(response, status, body));
      await rig.run(rig.workerOf());
      for (const one of jobs) seen.push((await rig.queue.get(one)).status);
    }

    assert.deepEqual(seen, ["failed", "failed", "failed", "failed", "processing", "processing"]);
    await context.db.superSql`select public.remove_job_route('measure')`;
  });

  it("gives a function no longer than its own isolate may live, and charges the attempt", async () => {
    const { id } = await rig.queue.enqueue(defineJob("never_ends", { maxRetries: 0 }), {});
    rig.functions.answer(() => undefined);

    const done = await rig.run(rig.workerOf({ lifeMs: 4_000 }));

    assert.deepEqual([done.failed, done.released], [1, 0]);
    const [row] = await context.db.superSql`
      select last_error from public.job_queue where id = ${id}`;
    assert.equal(row?.["last_error"], "never-ends did not answer within 3000 ms");
  });

  it("does not complete jobs of a batch that could not be handed over", async () => {
    await context.db.superSql`select public.set_job_route('measure', p_batch => 2)`;
    const jobs = await rig.queue.enqueueMany(defineJob<{ n: number }>("measure"), [
      { n: 1 },
      { n: 2 },
    ]);
    rig.functions.answer((_call, response) => response.writeHead(202).end());
    await context.db.superSql`alter function queue.hand_over rename to hand_over_gone`;

    const done = await rig.run(rig.workerOf({ lifeMs: 1_000 })).finally(async () => {
      await context.db.superSql`alter function queue.hand_over_gone rename to hand_over`;
      await context.db.superSql`select public.remove_job_route('measure')`;
    });

    assert.equal(done.completed, 0);
    for (const one of jobs) assert.notEqual((await rig.queue.get(one)).status, "completed");
  });
});
