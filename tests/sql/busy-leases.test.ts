import assert from "node:assert/strict";
import { before, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type ClaimedJob, rigOf } from "./rig.ts";
import { advance, type Request, registerWorker } from "./worker-calls.ts";

type Five = readonly [ClaimedJob, ClaimedJob, ClaimedJob, ClaimedJob, ClaimedJob];

describeOnEachServer("advance beside a stranger", (context) => {
  let worker = 0;
  before(async () => {
    worker = await registerWorker(context.db.sql, "worker");
  });

  it("settles what it can of leases that somebody else holds, and names the others", async () => {
    const { sql, start, status } = rigOf(context.db);
    const claimed = [];
    for (let n = 0; n < 5; n += 1) claimed.push(await start("busy", {}, { worker: "worker" }));
    const [whole, done, rest, free, gone] = claimed as unknown as Five;
    const request: Request = {
      whole: [
        { lease: whole.lease_id, ms: [1] },
        { lease: free.lease_id, ms: [1] },
      ],
      done: [done],
      rest: [
        { lease: rest.lease_id, id: rest.id, outcome: "released" },
        { lease: gone.lease_id, id: gone.id, outcome: "released" },
      ],
    };
    await sql`delete from queue.leases where id = ${gone.lease_id}`;
    const [holder, session] = [context.db.connect({ max: 1 }), context.db.connect({ max: 1 })];
    await session`set lock_timeout = '100ms'`;

    const answer = await holder.begin(async (tx) => {
      const held = [whole, done, rest].map((job) => job.lease_id);
      await tx`select from queue.leases where id = any (${held}) for update`;
      return advance(session, worker, request);
    });
    const again = await advance(session, worker, {
      ...request,
      whole: [{ lease: whole.lease_id, ms: [1] }],
    });

    assert.deepEqual(answer.busy_leases, [whole.lease_id]);
    assert.deepEqual(answer.busy, [
      [done.lease_id, done.id],
      [rest.lease_id, rest.id],
    ]);
    assert.deepEqual(
      [answer.lost, answer.refused, answer.statuses],
      [[], [[gone.lease_id, gone.id]], {}],
    );
    assert.deepEqual([again.busy_leases, again.busy], [null, null]);
    assert.deepEqual(await Promise.all([whole, done, rest, free].map(({ id }) => status(id))), [
      "completed",
      "completed",
      "pending",
      "completed",
    ]);
    const doubles = await sql`
      select job_id from queue.runs where job_id = any (${claimed.map(({ id }) => id)})
      group by job_id having count(*) > 1`;
    assert.deepEqual([...doubles], []);
  });
});
