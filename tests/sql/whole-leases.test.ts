import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";
import { type Answer, advance, type Request, registerWorker } from "./worker-calls.ts";

describeOnEachServer("leases settled as one", (context) => {
  let worker = 0;
  before(async () => {
    worker = await registerWorker(context.db.sql, "worker");
  });
  beforeEach(() => rigOf(context.db).clear());

  function go(request: Request): Promise<Answer> {
    return advance(context.db.sql, worker, request);
  }

  /** Claims so many jobs of a type under one lease. */
  async function hold(type: string, count: number): Promise<{ lease: string; ids: string[] }> {
    const { enqueue } = rigOf(context.db);
    for (let n = 0; n < count; n += 1) await enqueue(type);
    const { jobs } = await go({ limit: count, types: [type] });
    return { lease: only(jobs[0])[0], ids: jobs.map(([, id]) => id) };
  }

  it("complete all of their jobs, each with its time and its result", async () => {
    const { row, sql } = rigOf(context.db);
    const [one, two] = [await hold("whole", 2), await hold("whole", 1)];

    const answer = await go({
      whole: [
        { lease: two.lease, ms: [3000] },
        { lease: one.lease, ms: [1000, 2000] },
      ],
      wholeResults: [{ n: 3 }, null, [2]],
    });

    assert.deepEqual([answer.lost, answer.refused], [null, []]);
    const rows = await Promise.all([...two.ids, ...one.ids].map((id) => row(id)));
    assert.deepEqual(
      rows.map(({ status, result, started_at, finished_at }) => [
        status,
        result,
        Math.round((Number(finished_at) - Number(started_at)) / 1000),
      ]),
      [
        ["completed", { n: 3 }, 3],
        ["completed", null, 1],
        ["completed", [2], 2],
      ],
    );
    assert.equal((await sql`select from queue.leases`).length, 0);
  });

  it("are named when they were lost, and the others are settled all the same", async () => {
    const { status, sql } = rigOf(context.db);
    const lost = await hold("lost", 2);
    await sql`update queue.leases set expires_at = '-infinity'`;
    await sql`select public.cleanup_stuck_jobs()`;
    const alive = await hold("alive", 2);

    const answer = await go({
      whole: [
        { lease: lost.lease, ms: [5, 5] },
        { lease: alive.lease, ms: [5, 5] },
      ],
    });

    assert.deepEqual(answer.lost, [lost.lease]);
    assert.deepEqual(await Promise.all([...lost.ids, ...alive.ids].map(status)), [
      "pending",
      "pending",
      "completed",
      "completed",
    ]);
  });

  it("are not touched when one of their jobs has ended already", async () => {
    const { sql, status } = rigOf(context.db);
    const held = await hold("apart", 3);
    await sql`select public.complete_job(${only(held.ids[1])}, null, ${held.lease})`;

    const refused = await refusal(go({ whole: [{ lease: held.lease, ms: [5, 5, 5] }] }));

    assert.equal(refused.code, "23505");
    assert.deepEqual(await Promise.all(held.ids.map(status)), [
      "processing",
      "completed",
      "processing",
    ]);
  });

  it("are taken for lost when they hold another number of jobs than was said", async () => {
    const held = await hold("size", 3);

    const answer = await go({ whole: [{ lease: held.lease, ms: [5, 5] }] });

    assert.deepEqual(answer.lost, [held.lease]);
    assert.equal(await rigOf(context.db).status(only(held.ids[0])), "processing");
  });

  it("free children, forget requests to cancel, and come before the claim of the same call", async () => {
    const { enqueue, sql, status } = rigOf(context.db);
    const held = await hold("parent", 2);
    const child = await enqueue("child", { dependsOn: [only(held.ids[0]), only(held.ids[1])] });
    await sql`select public.cancel_job(${only(held.ids[1])})`;

    const answer = await go({
      whole: [{ lease: held.lease, ms: [5, 5] }],
      limit: 1,
      types: ["child"],
    });

    assert.equal(answer.jobs[0]?.[1], child);
    assert.equal(await status(only(held.ids[1])), "completed");
    assert.equal((await sql`select from queue.cancellations`).length, 0);
  });
});
