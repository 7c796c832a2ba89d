import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import fc from "fast-check";
import { seedFromEnvironment } from "../support/seed.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { type Rig, rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

const TYPE = "order.job";
const PRIORITIES = ["critical", "high", "normal", "low"] as const;

describeOnEachServer("the facts of claimed jobs", (context) => {
  let rig: Rig;
  let worker: number;

  beforeEach(async () => {
    rig = rigOf(context.db);
    await rig.clear();
    worker = await registerWorker(rig.sql, crypto.randomUUID());
  });

  /**
   * Writes jobs as concurrent producers do: ids are drawn first, and the rows are written in another order. Each payload holds the id
   * that the producer was given.
   */
  async function write(order: readonly number[], priorities: readonly number[]): Promise<string[]> {
    await rig.enqueue(TYPE, { payload: { own: "0" } });
    await rig.clear();
    const [drawn] = await rig.sql<{ ids: string[] }[]>`
      select array_agg(nextval('queue.job_ids')::text) as ids from generate_series(1, ${order.length})`;
    const ids = drawn?.ids ?? [];
    for (const at of order) {
      const priority = priorities[at] ?? 2;
      await context.db.superSql`
        with fact as (
          insert into queue.jobs (id, created_at, type_id, queue_id, tenant_id, born, max_retries, priority, payload)
          select ${ids[at] ?? "0"}, queue.clock(), type.id, line.id, 0, 'pending', 3, ${priority},
            jsonb_build_object('own', ${ids[at] ?? "0"}::text)
          from queue.types as type, queue.queues as line
          where type.name = ${TYPE} and line.name = ${TYPE}
          returning id, created_at, queue_id, type_id, priority
        )
        insert into queue.ready (id, at, queue_id, lane, type_id, priority)
        select id, created_at, queue_id, 0, type_id, priority from fact`;
    }
    return ids;
  }

  it("belong to the ids they are told with, in whatever order ids, rows and the claim are", async () => {
    const plan = fc.integer({ min: 1, max: 12 }).chain((count) =>
      fc.record({
        order: fc.shuffledSubarray([...Array(count).keys()], { minLength: count }),
        priorities: fc.array(fc.integer({ min: 0, max: 3 }), {
          minLength: count,
          maxLength: count,
        }),
        limit: fc.integer({ min: 1, max: 12 }),
      }),
    );
    const check = fc.asyncProperty(plan, async ({ order, priorities, limit }) => {
      const ids = await write(order, priorities);
      const seen: string[] = [];
      while (seen.length < ids.length) {
        const { jobs } = await advance(rig.sql, worker, { types: [TYPE], limit });
        assert.notEqual(jobs.length, 0, "jobs are left that no claim brings");
        for (const [, id, type, , priority, payload] of jobs) {
          assert.deepEqual(payload, { own: id });
          assert.equal(type, TYPE);
          assert.equal(priority, PRIORITIES[priorities[ids.indexOf(id)] ?? 2]);
          seen.push(id);
        }
      }
      assert.deepEqual([...seen].sort(), [...ids].sort());
      await rig.clear();
    });
    await fc.assert(check, { numRuns: 40, endOnFailure: true, seed: seedFromEnvironment() });
  });

  it("of two neighbours that were written and claimed in descending order are not swapped", async () => {
    const ids = await write([1, 0], [2, 0]);
    const { jobs } = await advance(rig.sql, worker, { types: [TYPE], limit: 2 });

    assert.deepEqual(
      jobs.map((job) => [job[1], job[5]]),
      [
        [ids[1], { own: ids[1] }],
        [ids[0], { own: ids[0] }],
      ],
    );
  });
});
