/** The view job_status_history: the whole trail of a job, also of the steps that write no row. */
import assert from "node:assert/strict";
import { after, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

interface Step {
  readonly to_status: string;
  readonly at: Date;
  readonly attempt: number | null;
  readonly worker_id: string | null;
  readonly actor: string | null;
  readonly reason: string | null;
}

describeOnEachServer("job_status_history", (context) => {
  const steps = (id: string) =>
    context.db.sql<Step[]>`
      select to_status, at, attempt, worker_id, actor, reason from public.job_status_history
      where job_id = ${id} order by seq, part`;

  // Whatever the tests below did to their jobs.
  after(async () => {
    const broken = await context.db.sql`
      select * from (
        select *, lag(to_status) over job as before, lag(at) over job as earlier
        from public.job_status_history
        window job as (partition by job_id order by seq, part)
      ) as step
      where from_status is distinct from before or from_status = to_status or at < earlier`;
    assert.deepEqual([...broken], [], "each step begins where and when the one before ended");

    const adrift = await context.db.sql`
      select job.id, job.status, last.to_status from public.job_queue as job
      left join lateral (
        select step.to_status from public.job_status_history as step
        where step.job_id = job.id order by step.seq desc, step.part desc limit 1
      ) as last on true
      where last.to_status is distinct from job.status`;
    assert.deepEqual([...adrift], [], "the last step of each job leads to its status");
  });

  it("tells of each step of a plain job when it was, which attempt, and who", async () => {
    const { start, complete, trail, row } = rigOf(context.db);
    const held = await start("plain", {}, { worker: "ann" });
    await context.db.advance(1000);
    await complete(held);

    const told = await steps(held.id);

    assert.deepEqual(await trail(held.id), [
      ">pending",
      "pending>processing",
      "processing>completed",
    ]);
    assert.deepEqual(
      told.map((step) => [step.attempt, step.worker_id, step.reason]),
      [
        [null, null, null],
        [1, "ann", null],
        [1, "ann", null],
      ],
    );
    const job = await row(held.id);
    assert.deepEqual(
      told.map((step) => step.at),
      [job.created_at, job.started_at, job.finished_at],
    );
  });

  it("shows a running job as far as it has come", async () => {
    const { start, trail } = rigOf(context.db);
    const held = await start("running", {}, { worker: "ann" });

    const told = await steps(held.id);

    assert.deepEqual(await trail(held.id), [">pending", "pending>processing"]);
    assert.deepEqual([told[1]?.attempt, told[1]?.worker_id], [1, "ann"]);
  });

  it("tells that a scheduled job became pending when it was due, not when it was claimed", async () => {
    const { enqueue, take, trail, inMs } = rigOf(context.db);
    const scheduledAt = await inMs(10_000);
    const id = await enqueue("due", { scheduledAt });
    const before = await trail(id);
    await context.db.advance(30_000);
    await take("due");

    const told = await steps(id);

    assert.deepEqual(before, [">scheduled"]);
    assert.deepEqual(await trail(id), [">scheduled", "scheduled>pending", "pending>processing"]);
    assert.deepEqual(told[1]?.at, scheduledAt);
  });

  it("tells of a retry the error, and that it became pending when its delay was over", async () => {
    const { start, fail, take, complete, trail, row } = rigOf(context.db);
    const first = await start("retry");
    await fail(first, "no route", { after: 20 });
    const due = (await row(first.id)).scheduled_at;
    await context.db.advance(60_000);
    await complete(await take("retry"));

    const told = await steps(first.id);

    assert.deepEqual(await trail(first.id), [
      ">pending",
      "pending>processing",
      "processing>scheduled",
      "scheduled>pending",
      "pending>processing",
      "processing>completed",
    ]);
    assert.deepEqual(
      told.map((step) => step.attempt),
      [null, 1, 1, null, 2, 2],
    );
    assert.equal(told[2]?.reason, "no route");
    assert.deepEqual(told[3]?.at, due);
  });

  it("tells of a snooze its reason, and counts the attempt again", async () => {
    const { start, settle, take, trail } = rigOf(context.db);
    const first = await start("snooze");
    await settle(first, { outcome: "snoozed", detail: { delay_ms: 5000, reason: "too busy" } });
    await context.db.advance(6000);
    await take("snooze");

    const told = await steps(first.id);

    assert.deepEqual(await trail(first.id), [
      ">pending",
      "pending>processing",
      "processing>scheduled",
      "scheduled>pending",
      "pending>processing",
    ]);
    assert.deepEqual([told[2]?.reason, told[4]?.attempt], ["too busy", 1]);
  });

  it("tells of a release, and of a lost worker, that the job went back", async () => {
    const { start, settle, take, trail, sql } = rigOf(context.db);
    const first = await start("back");
    await settle(first, { outcome: "released", detail: { reason: "shutdown" } });
    await take("back", { worker: "dora", seconds: 1 });
    await context.db.advance(2000);
    await sql`select public.cleanup_stuck_jobs()`;

    const told = await steps(first.id);

    assert.deepEqual(await trail(first.id), [
      ">pending",
      "pending>processing",
      "processing>pending",
      "pending>processing",
      "processing>pending",
    ]);
    assert.equal(told[2]?.reason, "shutdown");
    assert.match(told[4]?.reason ?? "", /worker dora did not finish/);
  });

  it("tells that a blocked job became pending when its last parent ended", async () => {
    const { start, enqueue, complete, take, trail, row } = rigOf(context.db);
    const slow = await start("parent");
    const quick = await start("parent");
    const child = await enqueue("child", { dependsOn: [slow.id, quick.id] });
    await complete(quick);
    await context.db.advance(5000);
    await complete(slow);
    const pending = await steps(child);
    await context.db.advance(5000);
    await take("child");

    const told = await steps(child);

    assert.deepEqual(await trail(child), [">blocked", "blocked>pending", "pending>processing"]);
    assert.deepEqual(told[1]?.at, (await row(slow.id)).finished_at);
    assert.deepEqual(pending[1]?.at, told[1]?.at);
  });

  it("tells that a blocked job became scheduled when its parent ended before it was due", async () => {
    const { start, enqueue, complete, take, trail, inMs } = rigOf(context.db);
    const parent = await start("early-parent");
    const scheduledAt = await inMs(20_000);
    const child = await enqueue("late-child", { dependsOn: [parent.id], scheduledAt });
    await complete(parent);
    const before = await trail(child);
    await context.db.advance(40_000);
    await take("late-child");

    const told = await steps(child);

    assert.deepEqual(before, [">blocked", "blocked>scheduled"]);
    assert.deepEqual(await trail(child), [
      ">blocked",
      "blocked>scheduled",
      "scheduled>pending",
      "pending>processing",
    ]);
    assert.deepEqual(told[2]?.at, scheduledAt);
  });

  it("tells of a job that was cancelled with its parent by which one", async () => {
    const { enqueue, bury, trail } = rigOf(context.db);
    const parent = await enqueue("doomed-parent");
    const child = await enqueue("doomed-child", { dependsOn: [parent] });
    await bury("unrelated");
    await context.db.sql`select public.cancel_job(${parent}, 'no need')`;
    const orphan = await enqueue("doomed-child", { dependsOn: [parent] });

    const told = await steps(child);

    assert.deepEqual(await trail(child), [">blocked", "blocked>cancelled"]);
    assert.equal(told[1]?.reason, `its parent ${parent} was cancelled`);
    assert.deepEqual(await trail(orphan), [">blocked", "blocked>cancelled"]);
  });

  it("tells of a dead letter that was redriven its two lives", async () => {
    const { bury, take, complete, trail, sql } = rigOf(context.db);
    const id = await bury("redriven", {}, "gone");
    await sql`select from public.redrive_jobs(array[${id}]::bigint[], p_reason => 'mended')`;
    await complete(await take("redriven"));

    const told = await steps(id);

    assert.deepEqual(await trail(id), [
      ">pending",
      "pending>processing",
      "processing>failed",
      "failed>pending",
      "pending>processing",
      "processing>completed",
    ]);
    assert.deepEqual([told[2]?.reason, told[3]?.reason], ["gone", "mended"]);
    assert.equal(told[4]?.attempt, 1);
  });

  const CANCELLED = [
    { from: "pending", job: {}, hours: 0, path: [">pending", "pending>cancelled"] },
    { from: "scheduled", job: {}, hours: 1, path: [">scheduled", "scheduled>cancelled"] },
  ];
  for (const { from, job, hours, path } of CANCELLED) {
    it(`tells of a ${from} job that was cancelled, and run after all`, async () => {
      const { enqueue, trail, inMs, sql } = rigOf(context.db);
      const later = hours > 0 ? { scheduledAt: await inMs(hours * 3_600_000) } : {};
      const id = await enqueue(`cancel-${from}`, { ...job, ...later });
      await sql`select public.cancel_job(${id}, 'ordered twice')`;
      const told = await steps(id);
      await sql`select public.retry_job(${id}, 'it was not')`;

      const all = await steps(id);

      assert.equal(only(told.at(-1)).reason, "ordered twice");
      assert.deepEqual(await trail(id), [...path, "cancelled>pending"]);
      assert.equal(only(all.at(-1)).reason, "it was not");
      const [me] = await sql<{ name: string }[]>`select queue.actor() as name`;
      assert.deepEqual(
        [told[0]?.actor, told.at(-1)?.actor, all.at(-1)?.actor],
        [null, me?.name, me?.name],
      );
    });
  }

  it("tells of a running job that was asked to stop only what became of it", async () => {
    const { start, settle, trail, sql } = rigOf(context.db);
    const held = await start("stopped");
    await sql`select public.cancel_job(${held.id}, 'enough')`;
    const asked = await trail(held.id);
    await settle(held, { outcome: "cancelled", detail: { reason: "enough" } });

    assert.deepEqual(asked, [">pending", "pending>processing"]);
    assert.deepEqual(await trail(held.id), [...asked, "processing>cancelled"]);
    assert.equal((await steps(held.id)).at(-1)?.reason, "enough");
  });

  it("tells of a scheduled job that was run at once", async () => {
    const { enqueue, take, trail, inMs, sql } = rigOf(context.db);
    const id = await enqueue("hurried", { scheduledAt: await inMs(3_600_000) });
    await sql`select public.retry_job(${id}, 'can not wait')`;
    await take("hurried");

    const told = await steps(id);

    assert.deepEqual(await trail(id), [">scheduled", "scheduled>pending", "pending>processing"]);
    assert.equal(told[1]?.reason, "can not wait");
  });

  it("tells what was done where nobody gave a reason", async () => {
    const { enqueue, inMs, sql } = rigOf(context.db);
    const id = await enqueue("silent", { scheduledAt: await inMs(3_600_000) });
    await sql`select public.retry_job(${id})`;

    const told = await steps(id);

    assert.equal(told[1]?.reason, "expedited");
  });

  it("tells nothing of a job that nobody knows", async () => {
    assert.equal((await steps("999999999")).length, 0);
  });
});
