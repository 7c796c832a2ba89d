import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

describeOnEachServer("release", (context) => {
  it("gives a job back at once, with its attempt, at its old place", async () => {
    const { claim, enqueue, row, settle, start } = rigOf(context.db);
    const job = await start("back");
    const younger = await enqueue("back");

    assert.equal(await settle(job, { outcome: "released" }), "pending");

    assert.equal((await row(job.id)).attempts, 0);
    const claimed = await claim("back", { batch: 2 });
    assert.deepEqual(
      claimed.map(({ id, attempt }) => [id, attempt]),
      [
        [job.id, 1],
        [younger, 1],
      ],
    );
  });

  it("a job of earlier failures keeps their count", async () => {
    const { enqueue, fail, settle, take } = rigOf(context.db);
    await enqueue("failed-once", { options: { backoff: { base_ms: 0 } } });
    await fail(await take("failed-once"));

    await settle(await take("failed-once"), { outcome: "released" });

    assert.equal((await take("failed-once")).attempt, 2);
  });

  it("releases a part of a batch", async () => {
    const { claim, complete, enqueue, settle, status } = rigOf(context.db);
    for (const n of [1, 2]) await enqueue("part", { payload: n });
    const jobs = await claim("part", { batch: 2 });

    await settle(only(jobs[0]), { outcome: "released" });

    assert.equal(await status(only(jobs[0]).id), "pending");
    assert.equal(await complete(only(jobs[1])), true);
    assert.equal(await complete(only(jobs[0])), false, "it is nobody's now");
  });

  it("a suspect stays a suspect: a shutdown clears nobody", async () => {
    const { claim, enqueue, settle, sql } = rigOf(context.db);
    for (const n of [1, 2]) await enqueue("suspect", { payload: n });
    await claim("suspect", { batch: 2, seconds: 10 });
    await context.db.advance(11_000);
    await sql`select public.cleanup_stuck_jobs()`;

    for (const job of await claim("suspect", { batch: 2 })) {
      await settle(job, { outcome: "released" });
    }

    const leases = (await claim("suspect", { batch: 2 })).map(({ lease_id }) => lease_id);
    assert.equal(new Set(leases).size, 2);
  });

  it("cancels when somebody asked for it", async () => {
    const { settle, sql, start } = rigOf(context.db);
    const job = await start("unwanted");
    await sql`select public.cancel_job(${job.id})`;

    assert.equal(await settle(job, { outcome: "released" }), "cancelled");
  });

  it("a worker asks for the leases it does not know, and gives back those it names and no others", async () => {
    const { enqueue, sql, start, status } = rigOf(context.db);
    await enqueue("forget.other");
    const known = await start("forget", {}, { worker: "amnesiac" });
    const unknown = await start("forget", { maxRetries: 0 }, { worker: "amnesiac" });
    const late = await start("forget", {}, { worker: "amnesiac" });
    const foreign = await start("forget", {}, { worker: "somebody" });

    const [row] = await sql`
      select worker.id, queue.other_leases(worker.id, array[${known.lease_id}, ${late.lease_id}]::bigint[]) as ids
      from queue.workers as worker where worker.name = 'amnesiac'`;
    assert.deepEqual(row?.["ids"], [unknown.lease_id]);

    const named = [unknown.lease_id, foreign.lease_id];
    const [answer] = await sql`select queue.forget_leases(${row?.["id"]}, ${named}::bigint[]) as n`;
    assert.equal(answer?.["n"], 1);
    assert.deepEqual(
      await Promise.all([known, unknown, late, foreign].map(({ id }) => status(id))),
      ["processing", "pending", "processing", "processing"],
    );
  });
});
