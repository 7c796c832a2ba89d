import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type ClaimedJob, only, rigOf, type Wish } from "./rig.ts";

describeOnEachServer("jobs that may have killed their worker", (context) => {
  beforeEach(() => rigOf(context.db).clear());

  /** Claims, and loses all of it. */
  async function lose(type: string, wish: Wish): Promise<readonly ClaimedJob[]> {
    const { claim, sql } = rigOf(context.db);
    const jobs = await claim(type, { ...wish, seconds: 10 });
    await context.db.advance(11_000);
    await sql`select public.cleanup_stuck_jobs()`;
    return jobs;
  }

  async function attemptsOf(ids: readonly string[]): Promise<number[]> {
    const { row } = rigOf(context.db);
    return Promise.all(ids.map(async (id) => (await row(id)).attempts));
  }

  it("are not charged when they were lost together, also for the second time", async () => {
    const { enqueue } = rigOf(context.db);
    const ids = [await enqueue("again"), await enqueue("again")];

    await lose("again", { batch: 2 });
    assert.equal((await lose("again", { batch: 2 })).length, 2);

    assert.deepEqual(await attemptsOf(ids), [0, 0]);
  });

  it("are held one at a time by a worker once they were lost twice, and charged when lost alone", async () => {
    const { claim, complete, enqueue } = rigOf(context.db);
    const ids = [await enqueue("single"), await enqueue("single")];
    for (const _ of [1, 2]) await lose("single", { batch: 2 });
    const fresh = await enqueue("single");

    const held = await claim("single", { batch: 5, seconds: 10 });
    assert.deepEqual(
      held.map(({ id }) => id),
      [ids[0], fresh],
      "one of them, beside what is not suspected",
    );
    assert.deepEqual([...(await claim("single", { batch: 5 }))], []);
    const other = await claim("single", { batch: 5, worker: "other" });
    assert.deepEqual(
      other.map(({ id }) => id),
      [ids[1]],
      "another worker may try the next",
    );
    for (const job of [only(held[1]), only(other[0])]) await complete(job);
    await context.db.advance(11_000);
    await context.db.sql`select public.cleanup_stuck_jobs()`;

    assert.deepEqual(await attemptsOf(ids), [1, 1]);
  });

  it("are left for a worker that holds none, whatever they are asked by", async () => {
    const { claim, enqueue, sql } = rigOf(context.db);
    for (const tenant of ["t", "t"]) await enqueue("ask", { tenant });
    for (const _ of [1, 2]) await lose("ask", { batch: 2 });

    const byTenant = await claim("ask", { tenant: "t", batch: 2 });
    const overAll = await sql`select id from public.get_next_job('w', p_batch => 5)`;
    const anybody = await sql`select id from public.claim_next_job('fresh', 't')`;

    assert.deepEqual([byTenant.length, overAll.length, anybody.length], [1, 0, 1]);
  });

  it("one of them that kills every worker takes none of the others to the dead letters", async () => {
    const { claim, complete, enqueue, sql } = rigOf(context.db);
    const poison = await enqueue("mixed", { payload: "poison" });
    for (let n = 0; n < 24; n += 1) await enqueue("mixed");
    let crashes = 0;

    for (let jobs = await claim("mixed", { batch: 8, seconds: 10 }); jobs.length > 0; ) {
      if (jobs.some(({ id }) => id === poison)) {
        crashes += 1;
        assert.ok(crashes <= 6, "it comes to an end");
        await context.db.advance(11_000);
        await sql`select public.cleanup_stuck_jobs()`;
      } else {
        for (const job of jobs) await complete(job);
      }
      jobs = await claim("mixed", { batch: 8, seconds: 10 });
    }

    const [row] = await sql<{ completed: string; failed: string; most: number }[]>`
      select count(*) filter (where status = 'completed') as completed,
        count(*) filter (where status = 'failed') as failed,
        max(attempts) filter (where status = 'completed') as most
      from public.job_queue where type = 'mixed'`;
    assert.deepEqual([Number(row?.completed), Number(row?.failed)], [24, 1]);
    assert.equal(row?.most, 1, "and costs none of them an attempt");
  });
});
