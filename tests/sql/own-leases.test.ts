import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

describeOnEachServer("a worker that asks for work after its leases ran out", (context) => {
  it("keeps them until it extends them; another worker's call takes them back", async () => {
    const rig = rigOf(context.db);
    const id = await rig.enqueue("own.lease", { maxRetries: 0 });
    const busy = await registerWorker(rig.sql, "busy");
    const other = await registerWorker(rig.sql, "other");
    const { jobs } = await advance(rig.sql, busy, {
      types: ["own.lease"],
      limit: 1,
      leaseMs: 1_000,
    });
    const lease = jobs[0]?.[0] ?? "none";
    await context.db.advance(5_000);

    await advance(rig.sql, busy, { types: ["own.lease"], limit: 1 });
    assert.equal(await rig.status(id), "processing");
    const [row] = await rig.sql<{ answer: { alive: string[] } }[]>`
      select queue.extend_leases(${busy}, ${[lease]}::bigint[], 1000) as answer`;
    assert.deepEqual(row?.answer.alive, [lease]);

    await context.db.advance(5_000);
    await advance(rig.sql, other, { types: ["own.lease"], limit: 1 });
    assert.equal(await rig.status(id), "failed");
  });
});
