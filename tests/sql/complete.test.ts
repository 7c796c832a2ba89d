import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

describeOnEachServer("complete_job", (context) => {
  it("ends a job with its result", async () => {
    const { complete, row, start } = rigOf(context.db);
    const job = await start("done", {}, { worker: "worker-7" });

    assert.equal(await complete(job, { words: 12, list: [1, "é", null] }), true);

    const ended = await row(job.id);
    assert.deepEqual(
      [ended.status, ended.attempts, ended.worker_id, ended.last_error],
      ["completed", 1, "worker-7", null],
    );
    assert.deepEqual(ended.result, { words: 12, list: [1, "é", null] });
    assert.ok(ended.finished_at && ended.started_at && ended.finished_at >= ended.started_at);
  });

  it("keeps results that are no objects, and none for none", async () => {
    const { complete, row, start } = rigOf(context.db);
    const [text, none, nothing] = [await start("r"), await start("r"), await start("r")];

    await complete(text, "just text");
    await complete(none);
    await complete(nothing, null);

    assert.equal((await row(text.id)).result, "just text");
    assert.equal((await row(none.id)).result, null);
    assert.equal((await row(nothing.id)).result, null);
  });

  it("without a lease settles the live lease of the job", async () => {
    const { sql, start, status } = rigOf(context.db);
    const job = await start("simple");

    const [row] = await sql`select public.complete_job(${job.id}) as done`;

    assert.equal(row?.["done"], true);
    assert.equal(await status(job.id), "completed");
  });

  it("says false for a job that is not running, and changes nothing", async () => {
    const { enqueue, sql, status } = rigOf(context.db);
    const id = await enqueue("idle");

    const [waiting] = await sql`select public.complete_job(${id}) as done`;
    const [unknown] = await sql`select public.complete_job(999999999) as done`;
    const [nothing] = await sql`select public.complete_job(null) as done`;

    assert.deepEqual(
      [waiting?.["done"], unknown?.["done"], nothing?.["done"]],
      [false, false, false],
    );
    assert.equal(await status(id), "pending");
  });

  it("gives the same answer when it is asked again with the same lease", async () => {
    const { complete, row, start } = rigOf(context.db);
    const job = await start("twice");
    await complete(job, "first");

    assert.equal(await complete(job, "second"), true);

    assert.equal((await row(job.id)).result, "first");
  });

  it("says false when the attempt has failed already", async () => {
    const { complete, fail, start, status } = rigOf(context.db);
    const job = await start("failed-before");
    await fail(job);

    assert.equal(await complete(job), false);

    assert.equal(await status(job.id), "scheduled");
  });

  it("says false for a lease that holds other jobs", async () => {
    const { complete, start, status } = rigOf(context.db);
    const [mine, other] = [await start("mine"), await start("other")];

    assert.equal(await complete({ id: mine.id, lease_id: other.lease_id }), false);

    assert.equal(await status(mine.id), "processing");
    assert.equal(await status(other.id), "processing");
  });

  it("ends a batch part by part; the lease goes with its last job", async () => {
    const { claim, complete, enqueue, sql, status } = rigOf(context.db);
    for (const n of [1, 2, 3]) await enqueue("part", { payload: n });
    const jobs = await claim("part", { batch: 3 });
    const leases = async () => {
      const [row] = await sql<{ n: number }[]>`
        select count(*)::int as n from queue.leases where id = ${only(jobs[0]).lease_id}`;
      return row?.n;
    };

    await complete(only(jobs[1]));
    await complete(only(jobs[2]));
    assert.deepEqual([await leases(), await status(only(jobs[0]).id)], [1, "processing"]);
    await complete(only(jobs[0]));

    assert.equal(await leases(), 0);
  });

  it("a rolled back completion leaves the job with its worker", async () => {
    const { complete, sql, start, status } = rigOf(context.db);
    const job = await start("undo");

    await assert.rejects(
      sql.begin(async (tx) => {
        await tx`select public.complete_job(${job.id}, null, ${job.lease_id})`;
        throw new Error("no");
      }),
      /no/,
    );

    assert.equal(await status(job.id), "processing");
    assert.equal(await complete(job), true);
  });

  it("commits with the caller's own writes, or not at all", async () => {
    const { sql, start, status } = rigOf(context.db);
    await sql`create table public.ledger (job_id bigint primary key)`;
    const job = await start("effect");

    await sql.begin(async (tx) => {
      await tx`insert into public.ledger values (${job.id})`;
      const [row] = await tx`
        select queue.settle_one(${job.lease_id}, ${job.id}, 'completed') as status`;
      assert.equal(row?.["status"], "completed");
    });

    const [row] = await sql`select count(*)::int as n from public.ledger`;
    await sql`drop table public.ledger`;
    assert.deepEqual([row?.["n"], await status(job.id)], [1, "completed"]);
  });

  it("still holds when the lease ran out but nobody took the job back", async () => {
    const { complete, start } = rigOf(context.db);
    const job = await start("slow", {}, { seconds: 10 });
    await context.db.advance(60_000);

    assert.equal(await complete(job), true);
  });

  it("settle_one answers a repetition with null, so that writes beside it are not made twice", async () => {
    const { settle, start } = rigOf(context.db);
    const job = await start("strict");

    assert.equal(await settle(job, { outcome: "completed" }), "completed");
    assert.equal(await settle(job, { outcome: "completed" }), null);
  });

  it("a job may be completed although somebody asked to cancel it, and the request is forgotten", async () => {
    const { complete, sql, start, status } = rigOf(context.db);
    const [one, many] = [await start("wish"), await start("wish")];
    await sql`select public.cancel_job(${one.id}), public.cancel_job(${many.id})`;

    await complete(one);
    await sql`
      select queue.advance(lease.worker_id, array[lease.id], array[${many.id}]::bigint[])
      from queue.leases as lease where lease.id = ${many.lease_id}`;

    const left = await sql`select from queue.cancellations where job_id in (${one.id}, ${many.id})`;
    assert.deepEqual([await status(one.id), await status(many.id)], ["completed", "completed"]);
    assert.equal(left.length, 0);
  });
});
