import assert from "node:assert/strict";
import { it } from "node:test";
import { backendPid, eventually, waitForLockWait } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

describeOnEachServer("cancel_job", (context) => {
  async function cancel(id: string, reason: string | null = null): Promise<string | null> {
    const [row] = await context.db.sql<{ status: string | null }[]>`
      select public.cancel_job(${id}, ${reason}) as status`;
    return only(row).status;
  }

  async function requests(id: string): Promise<number> {
    return (await context.db.sql`select from queue.cancellations where job_id = ${id}`).length;
  }

  it("cancels a pending job at once, with the reason", async () => {
    const { claim, enqueue, row } = rigOf(context.db);
    const id = await enqueue("pending");

    assert.equal(await cancel(id, "ordered twice"), "cancelled");

    const job = await row(id);
    assert.deepEqual([job.status, job.last_error, job.attempts], ["cancelled", "ordered twice", 0]);
    assert.ok(job.finished_at);
    assert.deepEqual([...(await claim("pending"))], []);
  });

  it("cancels a scheduled job at once, also one between retries", async () => {
    const { enqueue, fail, inMs, row, start } = rigOf(context.db);
    const future = await enqueue("future", { scheduledAt: await inMs(60_000) });
    const retried = await start("retried");
    await fail(retried);

    assert.equal(await cancel(future), "cancelled");
    assert.equal(await cancel(retried.id), "cancelled");

    assert.equal((await row(retried.id)).attempts, 1);
  });

  it("cancels a blocked job at once, and its children", async () => {
    const { enqueue, row, status } = rigOf(context.db);
    const parent = await enqueue("parent");
    const child = await enqueue("child", { dependsOn: [parent] });
    const grandchild = await enqueue("grandchild", { dependsOn: [child] });

    assert.equal(await cancel(child), "cancelled");

    assert.equal(await status(parent), "pending");
    assert.equal((await row(grandchild)).last_error, `its parent ${child} was cancelled`);
  });

  it("asks a running job to stop; the answer of its worker decides", async () => {
    const { settle, start, status } = rigOf(context.db);
    const job = await start("running");

    assert.equal(await cancel(job.id, "stop"), "processing");
    assert.deepEqual([await status(job.id), await requests(job.id)], ["processing", 1]);
    const ending = await settle(job, { outcome: "cancelled", detail: { reason: "stopped" } });

    assert.equal(ending, "cancelled");
    assert.deepEqual([await status(job.id), await requests(job.id)], ["cancelled", 0]);
  });

  it("may be asked for twice; the first reason stands", async () => {
    const { sql, start } = rigOf(context.db);
    const job = await start("twice");

    await cancel(job.id, "first");
    await cancel(job.id, "second");

    const [request] =
      await sql`select reason, requested_by from queue.cancellations where job_id = ${job.id}`;
    assert.deepEqual({ ...request }, { reason: "first", requested_by: "postgres" });
  });

  it("leaves the other jobs of a batch alone", async () => {
    const { claim, complete, enqueue, settle } = rigOf(context.db);
    await enqueue("batch");
    await enqueue("batch");
    const [one, two] = await claim("batch", { batch: 2 });
    await cancel(only(one).id);

    assert.equal(await settle(only(one), { outcome: "failed" }), "cancelled");
    assert.equal(await complete(only(two)), true);
  });

  it("leaves a job that ended as it is", async () => {
    const { bury, complete, enqueue, start, trail } = rigOf(context.db);
    const done = await start("done");
    await complete(done);
    const dead = await bury("dead");
    const gone = await enqueue("gone");
    await cancel(gone);
    const before = await Promise.all([done.id, dead, gone].map(trail));

    const answers = [await cancel(done.id), await cancel(dead), await cancel(gone)];

    assert.deepEqual(answers, ["completed", "failed", "cancelled"]);
    assert.deepEqual(await Promise.all([done.id, dead, gone].map(trail)), before);
    assert.equal(await requests(done.id), 0);
  });

  it("says null for a job that does not exist", async () => {
    assert.equal(await cancel("999999999"), null);
  });

  it("is written down with who asked", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const service = context.db.connectAs("service_role", { sub: "ada" });
    const id = await enqueue("audited");

    await service`select public.cancel_job(${id}, 'because')`;

    const [entry] = await sql`select actor, action, detail from queue.audit where job_id = ${id}`;
    assert.deepEqual(
      { ...entry },
      {
        actor: "service_role:ada",
        action: "cancelled",
        detail: { from: "pending", to: "cancelled", reason: "because" },
      },
    );
  });

  it("while an attempt is just ending waits for it, and cancels the retry that follows", async () => {
    const { sql, start, status } = rigOf(context.db);
    const job = await start("ending");
    const [worker, operator] = [context.db.connect({ max: 1 }), context.db.connect({ max: 1 })];
    const pid = await backendPid(operator);
    const { answer } = await worker.begin(async (tx) => {
      await tx`select public.fail_job(${job.id}, 'boom', p_lease_id => ${job.lease_id})`;
      const answer = operator`select public.cancel_job(${job.id}) as status`.execute();
      await waitForLockWait(sql, pid);
      return { answer };
    });

    assert.equal((await answer)[0]?.["status"], "cancelled");
    assert.equal(await status(job.id), "cancelled");
  });

  it("while a claim is just committing waits for it, and asks the new worker to stop", async () => {
    const { enqueue, sql, status } = rigOf(context.db);
    const id = await enqueue("claiming");
    const [worker, operator] = [context.db.connect({ max: 1 }), context.db.connect({ max: 1 })];
    const pid = await backendPid(operator);
    const { answer } = await worker.begin(async (tx) => {
      await tx`select from public.get_next_job('w', array['claiming'])`;
      const answer = operator`select public.cancel_job(${id}) as status`.execute();
      await waitForLockWait(sql, pid);
      return { answer };
    });

    assert.equal((await answer)[0]?.["status"], "processing");
    assert.deepEqual([await status(id), await requests(id)], ["processing", 1]);
  });

  it("while the job is just completing comes too late, and leaves nothing behind", async () => {
    const { sql, start, status } = rigOf(context.db);
    const job = await start("completing");
    const [worker, operator] = [context.db.connect({ max: 1 }), context.db.connect({ max: 1 })];
    const pid = await backendPid(operator);
    const { answer } = await worker.begin(async (tx) => {
      await tx`select public.complete_job(${job.id}, p_lease_id => ${job.lease_id})`;
      const answer = operator`select public.cancel_job(${job.id}) as status`.execute();
      await waitForLockWait(sql, pid);
      return { answer };
    });

    assert.equal((await answer)[0]?.["status"], "completed");
    assert.deepEqual([await status(job.id), await requests(job.id)], ["completed", 0]);
  });
});

describeOnEachServer(
  "cancel_job and its NOTIFY",
  (context) => {
    it("tells the worker by NOTIFY which job of which lease is to stop", async () => {
      const { start } = rigOf(context.db);
      const job = await start("told");
      const heard: string[] = [];
      const listening = await context.db.sql.listen("millrace", (text) => heard.push(text));

      await context.db.sql`select public.cancel_job(${job.id})`;

      await eventually(() => heard.length > 0);
      await listening.unlisten();
      assert.deepEqual(heard, [`c:${job.lease_id}:${job.id}`]);
    });
  },
  { pooler: false },
);
