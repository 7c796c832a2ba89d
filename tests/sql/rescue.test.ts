import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

describeOnEachServer("cleanup_stuck_jobs", (context) => {
  beforeEach(() => rigOf(context.db).clear());

  async function cleanUp(): Promise<number> {
    const [row] = await context.db.sql<{ n: number }[]>`select public.cleanup_stuck_jobs() as n`;
    return only(row).n;
  }

  it("gives a job whose lease ran out back to the queue, not a moment earlier", async () => {
    const { start, status, take } = rigOf(context.db);
    const job = await start("stuck", {}, { seconds: 60 });

    await context.db.advance(55_000);
    assert.deepEqual([await cleanUp(), await status(job.id)], [0, "processing"]);
    await context.db.advance(6_000);
    assert.deepEqual([await cleanUp(), await status(job.id)], [1, "pending"]);

    const again = await take("stuck");
    assert.deepEqual([again.id, again.attempt], [job.id, 2], "the claim had counted the attempt");
  });

  it("does nothing when there is nothing to do", async () => {
    const { enqueue } = rigOf(context.db);
    await enqueue("waiting");

    assert.equal(await cleanUp(), 0);
  });

  it("a job that kills its worker again and again ends in the dead letters", async () => {
    const { enqueue, row, sql, take } = rigOf(context.db);
    const id = await enqueue("poison", { maxRetries: 2 });

    for (const attempt of [1, 2, 3]) {
      const job = await take("poison", { worker: "victim", seconds: 10 });
      assert.equal(job.attempt, attempt);
      await context.db.advance(11_000);
      assert.equal(await cleanUp(), 1);
    }

    const message = "worker victim did not finish, extend or release its lease in time";
    assert.deepEqual([(await row(id)).status, (await row(id)).last_error], ["failed", message]);
    const [letter] =
      await sql`select attempts, errors from public.job_dead_letter where id = ${id}`;
    assert.equal(letter?.["attempts"], 3);
    assert.deepEqual(
      letter?.["errors"].map((one: { outcome: string; error: { name: string } }) => [
        one.outcome,
        one.error.name,
      ]),
      [
        ["lost", "LeaseExpired"],
        ["lost", "LeaseExpired"],
        ["lost", "LeaseExpired"],
      ],
    );
  });

  it("does not charge a batch: nobody knows which job killed the worker", async () => {
    const { claim, enqueue, row } = rigOf(context.db);
    const ids = [await enqueue("batch"), await enqueue("batch"), await enqueue("batch")];
    await claim("batch", { batch: 3, seconds: 10 });
    await context.db.advance(11_000);

    assert.equal(await cleanUp(), 3);

    const attempts = await Promise.all(ids.map(async (id) => (await row(id)).attempts));
    assert.deepEqual(attempts, [0, 0, 0]);
  });

  it("charges the job of a batch that was alone unfinished", async () => {
    const { claim, complete, enqueue, row } = rigOf(context.db);
    await enqueue("rest");
    await enqueue("rest");
    const [done, lost] = await claim("rest", { batch: 2, seconds: 10 });
    await complete(only(done));
    await context.db.advance(11_000);

    assert.equal(await cleanUp(), 1);

    assert.equal((await row(only(lost).id)).attempts, 1);
    assert.equal((await row(only(done).id)).status, "completed");
  });

  it("a job that may run only once is charged in a batch as well: it may have begun", async () => {
    const { claim, enqueue, row, sql } = rigOf(context.db);
    const [once, often] = [await enqueue("pay", { maxRetries: 0 }), await enqueue("pay")];
    await claim("pay", { batch: 2, seconds: 10 });
    await context.db.advance(11_000);

    await cleanUp();

    assert.deepEqual([(await row(once)).status, (await row(often)).status], ["failed", "pending"]);
    assert.equal((await sql`select from queue.dead_letters where job_id = ${once}`).length, 1);
  });

  it("cancels a lost job that somebody had asked to cancel", async () => {
    const { sql, start, status } = rigOf(context.db);
    const job = await start("unwanted", {}, { seconds: 10 });
    await sql`select public.cancel_job(${job.id})`;
    await context.db.advance(11_000);

    await cleanUp();

    assert.equal(await status(job.id), "cancelled");
    assert.equal((await sql`select from queue.cancellations`).length, 0);
  });

  it("a rescued job keeps its place before younger ones", async () => {
    const { claim, enqueue, start } = rigOf(context.db);
    const old = await start("place", {}, { seconds: 10 });
    await context.db.advance(1000);
    await enqueue("place");
    await context.db.advance(10_000);

    await cleanUp();

    assert.equal((await claim("place"))[0]?.id, old.id);
  });

  it("keeps priority, tenant, queue and type of what it gives back", async () => {
    const { claim, start } = rigOf(context.db);
    const facts = { priority: "high", tenant: "acme", queue: "line", payload: { n: 1 } };
    const job = await start("facts", facts, { seconds: 10 });
    await context.db.advance(11_000);

    await cleanUp();

    const again = only((await claim(null, { tenant: "acme" }))[0]);
    const { lease_id, lease_expires_at, attempt, ...same } = again;
    assert.deepEqual(same, {
      id: job.id,
      type: "facts",
      queue: "line",
      priority: "high",
      payload: { n: 1 },
      tenant_id: "acme",
      max_retries: 3,
      created_at: job.created_at,
    });
  });

  it("rescues more leases in one call than one round takes", async () => {
    const { claim, sql } = rigOf(context.db);
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'crowd')) from generate_series(1, 120)))`;
    for (let n = 0; n < 120; n += 1) await claim("crowd", { seconds: 10 });
    await context.db.advance(11_000);

    assert.equal(await cleanUp(), 120);

    assert.equal((await sql`select from queue.leases`).length, 0);
  });

  it("leaves a lease alone that its worker is just settling, and comes back for it", async () => {
    const { sql, start, status } = rigOf(context.db);
    const job = await start("settling", {}, { seconds: 10 });
    await context.db.advance(11_000);
    const worker = context.db.connect({ max: 1 });

    const rescued = await worker.begin(async (tx) => {
      await tx`select public.complete_job(${job.id}, null, ${job.lease_id})`;
      return cleanUp();
    });

    assert.equal(rescued, 0);
    assert.equal(await cleanUp(), 0);
    assert.equal(await status(job.id), "completed");
    assert.equal((await sql`select from queue.leases`).length, 0);
  });

  it("maintain does it too, and says what it did", async () => {
    const { inMs, enqueue, sql, start, status } = rigOf(context.db);
    const job = await start("maintained", {}, { seconds: 10 });
    const due = await enqueue("due", { scheduledAt: await inMs(5000) });
    await context.db.advance(11_000);

    const [row] = await sql<{ did: Record<string, number> }[]>`select queue.maintain() as did`;

    assert.deepEqual([row?.did["rescued"], row?.did["promoted"], row?.did["swept"]], [1, 1, 0]);
    assert.deepEqual([await status(job.id), await status(due)], ["pending", "pending"]);
  });
});
