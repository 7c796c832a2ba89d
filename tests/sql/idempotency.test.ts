import assert from "node:assert/strict";
import { it } from "node:test";
import { backendPid, waitForLockWait } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";

describeOnEachServer("idempotency keys", (context) => {
  it("a second enqueue with a key returns the first job and makes none", async () => {
    const { claim, enqueue, row } = rigOf(context.db);

    const first = await enqueue("key", { key: "order-1", payload: { n: 1 } });
    const second = await enqueue("key", { key: "order-1", payload: { n: 2 } });

    assert.equal(second, first);
    assert.deepEqual((await row(first)).payload, { n: 1 });
    assert.equal((await claim("key", { batch: 10 })).length, 1);
  });

  it("a key still counts when the job has ended", async () => {
    const { complete, enqueue, start } = rigOf(context.db);
    const job = await start("ended", { key: "done" });
    await complete(job);

    assert.equal(await enqueue("ended", { key: "done" }), job.id);
  });

  it("tenants have keys of their own, and so have jobs without one", async () => {
    const { enqueue } = rigOf(context.db);

    const ids = [
      await enqueue("own", { key: "k", tenant: "a" }),
      await enqueue("own", { key: "k", tenant: "b" }),
      await enqueue("own", { key: "k" }),
    ];

    assert.equal(new Set(ids).size, 3);
    assert.deepEqual(
      [
        await enqueue("own", { key: "k", tenant: "a" }),
        await enqueue("own", { key: "k", tenant: "b" }),
        await enqueue("own", { key: "k" }),
      ],
      ids,
    );
  });

  it("a key is one over all types of a tenant", async () => {
    const { enqueue } = rigOf(context.db);

    const first = await enqueue("one.type", { key: "shared", tenant: "t" });

    assert.equal(await enqueue("other.type", { key: "shared", tenant: "t" }), first);
  });

  it("a key that was rolled back is free again", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await assert.rejects(
      sql.begin(async (tx) => {
        await tx`select public.enqueue_job('free', p_idempotency_key => 'undone')`;
        throw new Error("rolled back");
      }),
      /rolled back/,
    );

    const id = await enqueue("free", { key: "undone" });

    assert.equal(await enqueue("free", { key: "undone" }), id);
  });

  it("of two at the same time one makes the job and the other waits and gets it", async () => {
    const { claim, sql } = rigOf(context.db);
    const [one, two] = [context.db.connect({ max: 1 }), context.db.connect({ max: 1 })];
    const pid = await backendPid(two);
    const outcomes = await one.begin(async (tx) => {
      const [first] = await tx`
        select * from queue.enqueue_one('both', p_idempotency_key => 'same')`;
      const second =
        two`select * from queue.enqueue_one('both', p_idempotency_key => 'same')`.execute();
      await waitForLockWait(sql, pid);
      return { first, second };
    });

    const [second] = await outcomes.second;

    assert.equal(outcomes.first?.["outcome"], "created");
    assert.deepEqual({ ...second }, { id: outcomes.first?.["id"], outcome: "existing" });
    assert.equal((await claim("both", { batch: 10 })).length, 1);
  });

  it("in one call the first element with a key makes the job, the others get it", async () => {
    const { sql } = context.db;

    const made = await sql<{ id: string; outcome: string }[]>`
      select * from public.enqueue_jobs('[
        {"type": "call", "idempotency_key": "x", "payload": 1},
        {"type": "call", "idempotency_key": "y"},
        {"type": "call", "idempotency_key": "x", "payload": 2},
        {"type": "call"}
      ]')`;

    assert.deepEqual(
      made.map(({ outcome }) => outcome),
      ["created", "created", "existing", "created"],
    );
    assert.equal(made[2]?.id, made[0]?.id);
    assert.equal(new Set(made.map(({ id }) => id)).size, 3);
  });

  it("a repeated flow of parents and children makes no job and no edge twice", async () => {
    const { sql } = context.db;
    const enqueueFlow = () => sql<{ id: string; outcome: string }[]>`
      select * from public.enqueue_jobs('[
        {"type": "flow", "ref": "p", "idempotency_key": "flow:p"},
        {"type": "flow", "depends_on_refs": ["p"], "idempotency_key": "flow:c"}
      ]')`;
    const first = await enqueueFlow();

    const again = await enqueueFlow();

    assert.deepEqual(
      again.map(({ id, outcome }) => [id, outcome]),
      first.map(({ id }) => [id, "existing"]),
    );
    const [edges] = await sql`
      select count(*)::int as n from queue.dependencies where parent_id = ${only(first[0]).id}`;
    assert.equal(edges?.["n"], 1);
  });

  it("a new child may depend on a parent that its key found", async () => {
    const { sql } = context.db;
    const { enqueue, row } = rigOf(context.db);
    const parent = await enqueue("found", { key: "parent" });

    const made = await sql<{ id: string; outcome: string }[]>`
      select * from public.enqueue_jobs('[
        {"type": "found", "ref": "p", "idempotency_key": "parent"},
        {"type": "found", "depends_on_refs": ["p"]}
      ]')`;

    const child = await row(only(made[1]).id);
    assert.deepEqual([child.status, child.depends_on], ["blocked", [parent]]);
  });

  it("keys of 1 to 255 characters are taken, others refused", async () => {
    const { enqueue } = rigOf(context.db);

    await enqueue("length", { key: "k" });
    await enqueue("length", { key: "é".repeat(255) });
    const refused = [
      await refusal(enqueue("length", { key: "" })),
      await refusal(enqueue("length", { key: "k".repeat(256) })),
    ];

    assert.deepEqual(
      refused.map(({ code }) => code),
      ["MR009", "MR009"],
    );
  });
});
