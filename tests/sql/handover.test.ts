/** Jobs that a worker passes on to a function which reports later: their lease, and what is reported of them. */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type ClaimedJob, only, rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

describeOnEachServer("a job that was handed over", (context) => {
  let worker = 0;
  before(async () => {
    worker = await registerWorker(context.db.sql, "sender");
  });
  beforeEach(() => rigOf(context.db).clear());

  /** Jobs of one lease, as the worker claims them. */
  async function claimed(count: number, maxRetries = 3): Promise<ClaimedJob[]> {
    const { enqueue, sql } = rigOf(context.db);
    for (let n = 0; n < count; n += 1) await enqueue("sent", { maxRetries });
    const { jobs } = await advance(sql, worker, { limit: count, types: ["sent"], mark: {} });
    return jobs.map(([lease_id, id]) => ({ lease_id, id }) as ClaimedJob);
  }

  async function handOver(job: ClaimedJob, ms = 60_000): Promise<boolean> {
    const [row] = await context.db.sql<{ passed: boolean }[]>`
      select queue.hand_over(${worker}, ${job.lease_id}, ${job.id}, ${ms}, '{"function": "f"}') as passed`;
    return only(row).passed;
  }

  async function tell(job: ClaimedJob, report: string, detail: unknown = {}): Promise<boolean> {
    const { sql } = context.db;
    const [row] = await sql<{ accepted: boolean }[]>`
      select queue.answer_call(${job.id}, ${job.lease_id}, ${report}, ${sql.json(detail as never)}) as accepted`;
    return only(row).accepted;
  }

  it("has a lease of its own, and the others keep theirs", async () => {
    const { complete, status, sql } = rigOf(context.db);
    const [one, two, three] = await claimed(3);
    assert.ok(one && two && three);

    assert.equal(await handOver(two), true);

    const leases =
      await sql`select job_ids::text[] as jobs, is_handed_over from queue.leases order by id`;
    assert.deepEqual(
      leases.map((lease) => ({ ...lease })),
      [
        { jobs: [one.id, three.id], is_handed_over: false },
        { jobs: [two.id], is_handed_over: true },
      ],
    );
    for (const job of [one, three]) assert.equal(await complete(job), true);
    assert.equal(await status(two.id), "processing");
    assert.equal(await tell(two, "completed", { result: 7 }), true);
    assert.equal((await sql`select from queue.leases`).length, 0);
    assert.equal((await rigOf(context.db).row(two.id)).result, 7);
  });

  it("closes the lease that it leaves when the others have ended", async () => {
    const { complete, sql } = rigOf(context.db);
    const [one, two] = await claimed(2);
    assert.ok(one && two);
    await complete(one);

    await handOver(two);

    const leases = await sql`select is_handed_over from queue.leases`;
    assert.deepEqual(
      leases.map(({ is_handed_over }) => is_handed_over),
      [true],
    );
  });

  it("is handed over once, by its own worker, while its lease holds", async () => {
    const { sql } = context.db;
    const [one, two, three] = await claimed(3);
    assert.ok(one && two && three);
    await handOver(one);
    await rigOf(context.db).complete(two);
    const stranger = await registerWorker(sql, "stranger");
    const [row] =
      await sql`select queue.hand_over(${stranger}, ${three.lease_id}, ${three.id}, 1000) as passed`;

    assert.deepEqual(
      [await handOver(one), await handOver(two), row?.["passed"]],
      [false, false, false],
    );
    await context.db.advance(31_000);
    await sql`select public.cleanup_stuck_jobs()`;
    assert.equal(await handOver(three), false);
  });

  it("stays the function's when its worker comes back from an outage", async () => {
    const [one] = await claimed(1);
    assert.ok(one);
    await handOver(one);

    await context.db.sql`select queue.forget_leases(${worker}, array(select id from queue.leases))`;

    assert.equal(await tell(one, "extend", { seconds: 60 }), true);
  });

  it("is tried again when its time is over, with the attempt charged", async () => {
    const { status, row } = rigOf(context.db);
    const [one, two] = await claimed(2, 1);
    assert.ok(one && two);
    await handOver(one);
    await handOver(two);
    await context.db.advance(50_000);
    assert.equal(await tell(two, "extend", { seconds: 60 }), true);
    await context.db.advance(20_000);
    // Its worker lives and has other jobs: it did not die of this one.
    await claimed(1);
    await context.db.sql`select public.cleanup_stuck_jobs()`;

    assert.deepEqual([await status(one.id), (await row(one.id)).attempts], ["pending", 1]);
    assert.equal(await status(two.id), "processing");
    assert.match((await row(one.id)).last_error ?? "", /did not report its end in time/);
    assert.equal(await tell(one, "completed"), false);
  });

  it("fails as any job does: with a retry, or for good", async () => {
    const { status, sql } = rigOf(context.db);
    const [one, two] = await claimed(2);
    assert.ok(one && two);
    await handOver(one);
    await handOver(two);

    await tell(one, "failed", { error: { message: "no" }, retryable: true, delay_ms: 5_000 });
    await tell(two, "failed", { error: { message: "no" }, retryable: false });

    assert.deepEqual([await status(one.id), await status(two.id)], ["scheduled", "failed"]);
    const notes =
      await sql`select note from queue.runs where job_id = any (${[one.id, two.id]}) order by job_id`;
    for (const { note } of notes) assert.deepEqual(note, { function: "f", is_handed_over: true });
  });

  it("is known as such in its history, whatever its handler noted", async () => {
    const { sql } = context.db;
    const noted = [null, { function: "f" }, "a text", [1]];
    for (const note of noted) {
      const [job] = await claimed(1);
      assert.ok(job);
      await sql`
        select queue.hand_over(${worker}, ${job.lease_id}, ${job.id}, 60000, ${note === null ? null : sql.json(note)})`;
      await tell(job, "completed");
    }

    const runs = await sql`
      select note from queue.runs where job_id in (
        select id from public.job_queue where type = 'sent' order by id desc limit 4) order by job_id`;
    assert.deepEqual(
      runs.map(({ note }) => note),
      [
        { is_handed_over: true },
        { function: "f", is_handed_over: true },
        { note: "a text", is_handed_over: true },
        { note: [1], is_handed_over: true },
      ],
    );
  });

  it("takes reports before it is handed over, and then is not handed over", async () => {
    const [one] = await claimed(1);
    assert.ok(one);

    assert.equal(await tell(one, "progress", { percent: 10 }), true);
    assert.equal(await tell(one, "extend", { seconds: 60 }), true);
    assert.equal(await tell(one, "completed"), true);
    assert.equal(await handOver(one), false);
  });

  it("ends when somebody cancels it, at the function's next word", async () => {
    const { status, sql } = rigOf(context.db);
    const [one] = await claimed(1);
    assert.ok(one);
    await handOver(one);
    await sql`select public.cancel_job(${one.id})`;

    assert.equal(await tell(one, "progress", { percent: 10 }), false);
    assert.equal(await status(one.id), "cancelled");
    assert.equal((await sql`select from queue.leases`).length, 0);
  });

  it("leaves nothing behind that maintenance does not take", async () => {
    const [one] = await claimed(1);
    assert.ok(one);
    await handOver(one);
    await tell(one, "completed");

    await context.db.sql`select queue.maintain()`;

    assert.equal((await context.db.sql`select from queue.handovers`).length, 0);
  });
});
