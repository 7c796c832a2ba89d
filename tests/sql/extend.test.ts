import assert from "node:assert/strict";
import { before, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

interface Extended {
  readonly alive: string[];
  readonly cancelled: string[][];
  readonly expires_at: number;
  readonly now: number;
}

describeOnEachServer("extend_leases", (context) => {
  let worker = 0;
  before(async () => {
    worker = await register("worker");
  });

  async function register(name: string): Promise<number> {
    const [row] = await context.db.sql<{ id: number }[]>`
      select (queue.register_worker(${name}, null, null, null) ->> 'worker')::int as id`;
    return only(row).id;
  }

  async function extend(leases: string[], ms = 60_000, by = worker): Promise<Extended> {
    const [row] = await context.db.sql<{ answer: Extended }[]>`
      select queue.extend_leases(${by}, ${leases}, ${ms}) as answer`;
    return only(row).answer;
  }

  it("pushes the end of a lease forward, so that nobody rescues its jobs", async () => {
    const { complete, sql, start } = rigOf(context.db);
    const job = await start("long", {}, { worker: "worker", seconds: 30 });

    await context.db.advance(29_000);
    const answer = await extend([job.lease_id]);
    await context.db.advance(59_000);
    await sql`select public.cleanup_stuck_jobs()`;

    assert.deepEqual(answer.alive, [job.lease_id]);
    assert.equal(answer.expires_at - answer.now, 60_000);
    assert.equal(await complete(job), true);
  });

  it("never shortens a lease", async () => {
    const { sql, start } = rigOf(context.db);
    const job = await start("never", {}, { worker: "worker", seconds: 600 });

    await extend([job.lease_id], 1000);

    const [lease] = await sql<{ expires_at: Date }[]>`
      select expires_at from queue.leases where id = ${job.lease_id}`;
    assert.deepEqual(lease?.expires_at, job.lease_expires_at);
  });

  it("tells which leases are lost", async () => {
    const { sql, start } = rigOf(context.db);
    const lost = await start("lost", {}, { worker: "worker", seconds: 10 });
    const kept = await start("kept", {}, { worker: "worker", seconds: 3600 });
    await context.db.advance(11_000);
    await sql`select public.cleanup_stuck_jobs()`;

    const answer = await extend([lost.lease_id, kept.lease_id]);

    assert.deepEqual(answer.alive, [kept.lease_id]);
  });

  it("revives a lease that ran out, as long as nobody took its jobs", async () => {
    const { sql, start, status } = rigOf(context.db);
    const job = await start("revive", {}, { worker: "worker", seconds: 10 });
    await context.db.advance(20_000);

    const answer = await extend([job.lease_id]);
    await sql`select public.cleanup_stuck_jobs()`;

    assert.deepEqual(answer.alive, [job.lease_id]);
    assert.equal(await status(job.id), "processing");
  });

  it("leaves the leases of other workers alone", async () => {
    const { start, sql } = rigOf(context.db);
    const job = await start("foreign", {}, { worker: "another", seconds: 10 });

    const answer = await extend([job.lease_id], 600_000);

    const [lease] = await sql<{ expires_at: Date }[]>`
      select expires_at from queue.leases where id = ${job.lease_id}`;
    assert.deepEqual(answer.alive, []);
    assert.deepEqual(lease?.expires_at, job.lease_expires_at);
  });

  it("tells which of its jobs somebody asked to cancel, again and again until they end", async () => {
    const { claim, complete, enqueue, sql } = rigOf(context.db);
    const ids = [await enqueue("stop"), await enqueue("stop")];
    const jobs = await claim("stop", { worker: "worker", batch: 2, seconds: 600 });
    const lease = only(jobs[0]).lease_id;
    await sql`select public.cancel_job(${only(ids[1])})`;

    const [first, second] = [await extend([lease]), await extend([lease])];
    await complete(only(jobs[1]));
    const third = await extend([lease]);

    assert.deepEqual(first.cancelled, [[lease, ids[1]]]);
    assert.deepEqual(second.cancelled, first.cancelled);
    assert.deepEqual(third.cancelled, []);
  });

  it("answers an empty list for no leases", async () => {
    assert.deepEqual((await extend([])).alive, []);
  });
});
