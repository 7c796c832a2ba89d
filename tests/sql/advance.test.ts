import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";
import {
  type AdvanceJob,
  type Answer,
  advance,
  type Request,
  registerWorker,
} from "./worker-calls.ts";

describeOnEachServer("advance", (context) => {
  let worker = 0;
  before(async () => {
    worker = await registerWorker(context.db.sql, "worker");
  });
  beforeEach(() => rigOf(context.db).clear());

  function go(request: Request): Promise<Answer> {
    return advance(context.db.sql, worker, request);
  }

  it("claims jobs with all that a handler needs", async () => {
    const { enqueue, inMs, row } = rigOf(context.db);
    const scheduledAt = await inMs(-5000);
    const id = await enqueue("all", {
      payload: { text: 'a "quoted" \\ é 😀 line\nbreak', n: 1e21, list: [null] },
      priority: "critical",
      scheduledAt,
      tenant: 'ten"ant',
      queue: "li'ne",
      maxRetries: 2,
      options: { timeout_ms: 7 },
    });

    const answer = await go({ limit: 5, types: ["all"], leaseMs: 45_000 });

    const [job] = answer.jobs;
    const created = (await row(id)).created_at.getTime();
    assert.deepEqual(only(job).slice(1), [
      id,
      "all",
      "li'ne",
      "critical",
      { text: 'a "quoted" \\ é 😀 line\nbreak', n: 1e21, list: [null] },
      'ten"ant',
      1,
      2,
      created,
      scheduledAt.getTime(),
      { timeout_ms: 7 },
    ]);
    assert.ok(Math.abs(only(answer.expires_at ?? undefined) - answer.now - 45_000) <= 2000);
    assert.deepEqual([answer.refused, answer.statuses], [[], {}]);
  });

  it("settles finished jobs and claims the next in one call", async () => {
    const { enqueue, row } = rigOf(context.db);
    const [first, second] = [await enqueue("fused"), await enqueue("fused")];
    const one = only((await go({ limit: 1, types: ["fused"] })).jobs[0]);

    const answer = await go({
      done: [{ id: one[1], lease_id: one[0], ms: 1500 }],
      results: [{ words: 3 }],
      limit: 1,
      types: ["fused"],
    });

    const done = await row(first);
    assert.deepEqual([done.status, done.result], ["completed", { words: 3 }]);
    assert.equal(Number(done.finished_at) - Number(done.started_at), 1500);
    assert.equal(answer.jobs[0]?.[1], second);
  });

  it("keeps results beside their jobs, and none for null", async () => {
    const { claim, enqueue, row } = rigOf(context.db);
    for (const n of [1, 2, 3]) await enqueue("results", { payload: n });
    const jobs = await claim("results", { worker: "worker", batch: 3 });

    await go({ done: jobs, results: ["first", null, [3]] });

    const results = await Promise.all(jobs.map(async ({ id }) => (await row(id)).result));
    assert.deepEqual(results, ["first", null, [3]]);
  });

  it("settles jobs of several leases, and parts of a batch", async () => {
    const { claim, enqueue, sql, status } = rigOf(context.db);
    for (const n of [1, 2, 3, 4]) await enqueue("parts", { payload: n });
    const pair = await claim("parts", { worker: "worker", batch: 2 });
    const other = await claim("parts", { worker: "worker", batch: 2 });

    await go({ done: [only(other[1]), only(pair[0])] });
    const left = await sql`select from queue.leases`;
    await go({ done: [only(other[0]), only(pair[1])] });

    assert.equal(left.length, 2);
    assert.equal((await sql`select from queue.leases`).length, 0);
    assert.deepEqual(await Promise.all([...pair, ...other].map(({ id }) => status(id))), [
      "completed",
      "completed",
      "completed",
      "completed",
    ]);
  });

  it("ends the rest in every other way, and says what became of each and when it runs again", async () => {
    const { claim, enqueue } = rigOf(context.db);
    for (const n of [1, 2, 3, 4, 5]) await enqueue("rest", { payload: n, maxRetries: 1 });
    const jobs = await claim("rest", { worker: "worker", batch: 5 });
    const end = (n: number, how: Record<string, unknown>) => ({
      lease: only(jobs[n]).lease_id,
      id: only(jobs[n]).id,
      ...how,
    });

    const answer = await go({
      rest: [
        end(0, { outcome: "failed", error: { message: "x" }, delay_ms: 7000 }),
        end(1, { outcome: "snoozed", delay_ms: 3000 }),
        end(2, { outcome: "released" }),
        end(3, { outcome: "discarded", reason: "no" }),
        end(4, { outcome: "cancelled", reason: "stopped" }),
      ],
    });

    assert.deepEqual(
      jobs.map(({ id }) => answer.statuses[id]),
      ["scheduled", "scheduled", "pending", "failed", "cancelled"],
    );
    const [retry, snooze, ...others] = jobs.map(({ id }) => answer.retry_in_ms[id]);
    assert.ok(only(retry) > 5000 && only(retry) <= 7000);
    assert.ok(only(snooze) > 1000 && only(snooze) <= 3000);
    assert.deepEqual(others, [undefined, undefined, undefined]);
  });

  it("tells which settlements came too late, of both kinds, and does the others", async () => {
    const { claim, enqueue, sql, status } = rigOf(context.db);
    await enqueue("late");
    await enqueue("late");
    const [lost, lostToo] = [
      await claim("late", { worker: "worker", seconds: 10 }),
      await claim("late", { worker: "worker", seconds: 10 }),
    ];
    await context.db.advance(11_000);
    await sql`select public.cleanup_stuck_jobs()`;
    await enqueue("kept");
    const kept = only((await claim("kept", { worker: "worker" }))[0]);

    const answer = await go({
      done: [only(lost[0]), kept],
      rest: [{ lease: only(lostToo[0]).lease_id, id: only(lostToo[0]).id, outcome: "failed" }],
    });

    assert.deepEqual(answer.refused, [
      [only(lost[0]).lease_id, only(lost[0]).id],
      [only(lostToo[0]).lease_id, only(lostToo[0]).id],
    ]);
    assert.deepEqual(answer.statuses, {});
    assert.deepEqual(
      [await status(kept.id), await status(only(lost[0]).id)],
      ["completed", "pending"],
    );
  });

  it("a settlement repeated after a lost answer is not refused", async () => {
    const { claim, enqueue, sql } = rigOf(context.db);
    for (const n of [1, 2, 3, 4]) await enqueue("repeat", { payload: n });
    const [done, failed, discarded] = await claim("repeat", { worker: "worker", batch: 4 });
    const request: Request = {
      done: [only(done)],
      rest: [
        { lease: only(failed).lease_id, id: only(failed).id, outcome: "failed", delay_ms: 0 },
        { lease: only(discarded).lease_id, id: only(discarded).id, outcome: "discarded" },
      ],
    };
    await go(request);

    const answer = await go(request);

    assert.deepEqual(answer.refused, []);
    assert.equal((await sql`select from queue.runs where job_id = ${only(done).id}`).length, 1);
  });

  it("but one that says otherwise than before is refused", async () => {
    const { start, status } = rigOf(context.db);
    const job = await start("otherwise", {}, { worker: "worker" });
    await go({ done: [job] });

    const answer = await go({ rest: [{ lease: job.lease_id, id: job.id, outcome: "failed" }] });

    assert.deepEqual(answer.refused, [[job.lease_id, job.id]]);
    assert.equal(await status(job.id), "completed");
  });

  it("claims nothing without a limit, and says so shortly", async () => {
    const { enqueue } = rigOf(context.db);
    await enqueue("waiting");

    const answer = await go({});

    assert.deepEqual(
      [answer.jobs, answer.mark, answer.expires_at, answer.next_due_in_ms],
      [[], null, null, null],
    );
  });

  it("tells when the next job falls due, if it found none", async () => {
    const { enqueue, inMs } = rigOf(context.db);
    await enqueue("due", { scheduledAt: await inMs(20_000) });

    const empty = await go({ limit: 1 });
    await enqueue("due");
    const found = await go({ limit: 1 });

    const wait = only(empty.next_due_in_ms ?? undefined);
    assert.ok(wait > 15_000 && wait <= 20_000, String(wait));
    assert.equal(found.next_due_in_ms, null);
  });

  it("tells the same of a job that comes alone and of one among others", async () => {
    const { enqueue, inMs } = rigOf(context.db);
    const job = {
      payload: { to: "ada" },
      priority: "high",
      tenant: "acme",
      queue: "line",
      maxRetries: 7,
      scheduledAt: await inMs(1_000),
      options: { timeout_ms: 500 },
    };
    await enqueue("full", job);
    await enqueue("bare");
    await context.db.advance(2_000);

    const many = await go({ limit: 9 });
    const rest = many.jobs.map(([lease, id]) => ({ lease, id, outcome: "released" }));
    await go({ rest });
    const alone = [
      await go({ limit: 9, types: ["full"] }),
      await go({ limit: 9, types: ["bare"] }),
    ].map((answer) => only(answer.jobs[0]));

    const facts = (row: AdvanceJob): unknown => row.slice(1);
    const byType = (type: string): AdvanceJob => only(many.jobs.find((row) => row[2] === type));
    assert.equal(many.jobs.length, 2);
    assert.deepEqual(alone.map(facts), [facts(byType("full")), facts(byType("bare"))]);
  });

  it("tells whether there is more, and nobody else has claimed for a second", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const other = await registerWorker(sql, "other");
    for (let n = 0; n < 6; n += 1) await enqueue("much");
    const claims = async (by: number, limit: number): Promise<boolean> =>
      (await advance(sql, by, { limit })).is_alone;

    assert.equal(await claims(worker, 1), true);
    assert.equal(await claims(worker, 1), true, "its own leases don't count");
    assert.equal(await claims(other, 1), false);
    assert.equal(await claims(worker, 1), false);
    await context.db.advance(2_000);
    assert.equal(await claims(other, 1), true);
    assert.equal(await claims(worker, 9), false, "there is no more");
  });

  it("serves the queues of its lane alone", async () => {
    const { enqueue } = rigOf(context.db);
    await enqueue("l", { queue: "lane.a" });
    await enqueue("l", { queue: "lane.b" });
    await enqueue("other", { queue: "lane.a" });
    const types = ["l"];

    const named = await go({ limit: 9, types, queues: ["lane.a"] });
    await enqueue("l", { queue: "lane.a" });
    const except = await go({ limit: 9, types, except: ["lane.a"] });
    const rest = await go({ limit: 9, queues: ["lane.a", "lane.b"] });

    assert.deepEqual(
      [except, named, rest].map(({ jobs }) => jobs.map((job) => `${job[2]} ${job[3]}`)),
      [["l lane.b"], ["l lane.a"], ["other lane.a", "l lane.a"]],
    );
  });

  it("frees children of what it completed before it claims", async () => {
    const { enqueue, start } = rigOf(context.db);
    const parent = await start("family", {}, { worker: "worker" });
    const child = await enqueue("family", { dependsOn: [parent.id] });

    const answer = await go({ done: [parent], limit: 1, types: ["family"] });

    assert.equal(answer.jobs[0]?.[1], child);
  });

  it("a result that is no JSON text for the database undoes nothing but the call", async () => {
    const { start, status } = rigOf(context.db);
    const [good, bad] = [
      await start("nul", {}, { worker: "worker" }),
      await start("nul", {}, { worker: "worker" }),
    ];

    const refused = await refusal(
      go({ done: [good, bad], results: ["fine", "a\u0000b"], limit: 1 }),
    );

    assert.equal(refused.code, "22P05");
    assert.deepEqual([await status(good.id), await status(bad.id)], ["processing", "processing"]);
    assert.deepEqual((await go({ done: [good, bad] })).refused, []);
  });

  it("open_jobs tells a worker whether it may end", async () => {
    const { claim, enqueue, inMs, sql } = rigOf(context.db);
    const look = async () => {
      const [row] = await sql<{ open: Record<string, unknown> }[]>`
        select queue.open_jobs(null, null, array(select id from queue.types where name = 'open')) as open`;
      const { next_due_in_ms, ...flags } = only(row).open;
      return [...Object.values(flags), next_due_in_ms === null];
    };
    await enqueue("foreign");
    const parent = await enqueue("open");
    const pending = await look();
    await claim("open", { worker: "worker" });
    const processing = await look();
    await enqueue("open", { dependsOn: [parent] });
    await enqueue("open", { scheduledAt: await inMs(60_000) });
    const all = await look();
    await rigOf(context.db).clear();

    assert.deepEqual(pending, [true, false, false, false, true]);
    assert.deepEqual(processing, [false, false, false, true, true]);
    assert.deepEqual(all, [false, true, true, true, false]);
    assert.deepEqual(await look(), [false, false, false, false, true]);
  });

  it("waits for the disk, unless it only claims jobs that may begin again", async () => {
    const { enqueue } = rigOf(context.db);
    await enqueue("again");
    await enqueue("once", { maxRetries: 0 });
    const commitOf = async (request: Request) =>
      context.db.sql.begin(async (tx) => {
        const { jobs } = await advance(tx as never, worker, request);
        const [row] = await tx<{ commit: string }[]>`
          select current_setting('synchronous_commit') as commit`;
        return { jobs, commit: row?.commit };
      });

    const claimed = await commitOf({ limit: 1, types: ["again"] });
    const once = await commitOf({ limit: 1, types: ["once"] });
    const job = only(claimed.jobs[0]);
    const settled = await commitOf({ done: [{ id: job[1], lease_id: job[0] }] });

    assert.deepEqual(
      [claimed.jobs.length, once.jobs.length, claimed.commit, once.commit, settled.commit],
      [1, 1, "off", "on", "on"],
    );
  });
});
