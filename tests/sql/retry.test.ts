import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

describeOnEachServer("retry_job", (context) => {
  async function retry(id: string, reason: string | null = null): Promise<string | null> {
    const [row] = await context.db.sql<{ status: string | null }[]>`
      select public.retry_job(${id}, ${reason}) as status`;
    return only(row).status;
  }

  it("runs a scheduled job without waiting", async () => {
    const { enqueue, inMs, take } = rigOf(context.db);
    const id = await enqueue("future", { scheduledAt: await inMs(3_600_000) });

    assert.equal(await retry(id), "pending");

    const job = await take("future");
    assert.deepEqual([job.id, job.attempt], [id, 1]);
  });

  it("runs a job between retries at once, without a fresh budget", async () => {
    const { fail, start, take } = rigOf(context.db);
    const job = await start("between");
    await fail(job);

    assert.equal(await retry(job.id), "pending");

    assert.equal((await take("between")).attempt, 2);
  });

  it("runs a failed job again with a fresh budget, and its dead letter goes", async () => {
    const { fail, row, sql, start, take } = rigOf(context.db);
    const job = await start("failed", { maxRetries: 1, options: { backoff: { base_ms: 0 } } });
    await fail(job);
    await fail(await take("failed"));

    assert.equal(await retry(job.id, "bug is fixed"), "pending");

    assert.equal((await sql`select from queue.dead_letters where job_id = ${job.id}`).length, 0);
    assert.deepEqual([(await row(job.id)).attempts, (await row(job.id)).last_error], [0, null]);
    const again = await take("failed");
    assert.equal(again.attempt, 1);
    assert.equal(await fail(again), "scheduled");
  });

  it("runs a failed job again though its dead letter was purged", async () => {
    const { bury, sql, status } = rigOf(context.db);
    const id = await bury("purged");
    await sql`select public.purge_jobs(array[${id}]::bigint[])`;

    assert.equal(await retry(id), "pending");
    assert.equal(await status(id), "pending");
  });

  it("runs a cancelled job again", async () => {
    const { enqueue, sql, take } = rigOf(context.db);
    const id = await enqueue("cancelled");
    await sql`select public.cancel_job(${id})`;

    assert.equal(await retry(id), "pending");

    assert.equal((await take("cancelled")).id, id);
  });

  it("a cancelled child runs without its parents, and their end touches it no more", async () => {
    const { bury, complete, enqueue, sql, start, status, trail } = rigOf(context.db);
    const bad = await enqueue("bad-parent");
    const open = await start("open-parent");
    const child = await enqueue("child", { dependsOn: [bad, open.id] });
    await sql`select public.cancel_job(${bad})`;
    assert.equal(await status(child), "cancelled");

    assert.equal(await retry(child), "pending");
    await complete(open);
    await bury("noise");

    assert.equal(await status(child), "pending");
    assert.deepEqual(await trail(child), [">blocked", "blocked>cancelled", "cancelled>pending"]);
  });

  it("leaves a pending or running job as it is", async () => {
    const { enqueue, start, trail } = rigOf(context.db);
    const running = await start("running");
    const pending = await enqueue("pending");

    assert.deepEqual([await retry(pending), await retry(running.id)], ["pending", "processing"]);

    assert.deepEqual(await trail(pending), [">pending"]);
    assert.deepEqual(await trail(running.id), [">pending", "pending>processing"]);
  });

  it("says null for a job that can't be run: completed, blocked, unknown", async () => {
    const { complete, enqueue, start, status } = rigOf(context.db);
    const done = await start("done");
    await complete(done);
    const parent = await enqueue("parent");
    const blocked = await enqueue("blocked", { dependsOn: [parent] });

    const answers = [await retry(done.id), await retry(blocked), await retry("999999999")];

    assert.deepEqual(answers, [null, null, null]);
    assert.deepEqual([await status(done.id), await status(blocked)], ["completed", "blocked"]);
  });

  it("is fenced: the worker of the time before can't end the new life", async () => {
    const { claim, complete, enqueue, fail, status, take } = rigOf(context.db);
    await enqueue("fence");
    await enqueue("fence");
    const [one, two] = await claim("fence", { batch: 2 });
    await fail(only(one), "no", { retryable: false });
    await retry(only(one).id);
    const again = await take("fence");

    assert.equal(await complete(only(one)), false, "its lease lives on for the other job only");
    assert.equal(await complete(only(two)), true);
    assert.equal(await status(again.id), "processing");
    assert.equal(await complete(again), true);
  });

  it("is written down with who asked and why", async () => {
    const { bury, sql } = rigOf(context.db);
    const id = await bury("audited");

    await retry(id, "bug is fixed");

    const [entry] = await sql`select actor, action, detail from queue.audit where job_id = ${id}`;
    assert.deepEqual(
      { ...entry },
      {
        actor: "postgres",
        action: "redriven",
        detail: { from: "failed", to: "pending", reason: "bug is fixed" },
      },
    );
  });
});
