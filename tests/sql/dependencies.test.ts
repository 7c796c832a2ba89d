import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type Leased, only, refusal, rigOf } from "./rig.ts";

describeOnEachServer("dependencies", (context) => {
  async function edgesOf(id: string): Promise<number> {
    return (
      await context.db.sql`select from queue.dependencies where ${id} in (parent_id, child_id)`
    ).length;
  }

  it("a child waits until all of its parents completed", async () => {
    const { claim, complete, enqueue, start, status } = rigOf(context.db);
    const parents = [await start("two.p"), await start("two.p"), await start("two.p")];
    const child = await enqueue("two.c", { dependsOn: parents.map(({ id }) => id) });

    const seen: string[] = [];
    for (const parent of parents) {
      seen.push(await status(child));
      assert.deepEqual([...(await claim("two.c"))], []);
      await complete(parent);
    }

    assert.deepEqual(seen, ["blocked", "blocked", "blocked"]);
    assert.equal((await claim("two.c"))[0]?.id, child);
    assert.equal(await edgesOf(child), 0);
  });

  it("a parent frees all of its children", async () => {
    const { claim, complete, enqueue, start } = rigOf(context.db);
    const parent = await start("many.p");
    const ids = [];
    for (let n = 0; n < 5; n += 1) ids.push(await enqueue("many.c", { dependsOn: [parent.id] }));

    await complete(parent);

    assert.deepEqual(
      (await claim("many.c", { batch: 9 })).map(({ id }) => id),
      ids,
    );
  });

  it("completing several parents at once frees a child of both", async () => {
    const { claim, enqueue, sql, status } = rigOf(context.db);
    const ids = [await enqueue("both.p"), await enqueue("both.p")];
    const jobs = await claim("both.p", { batch: 2 });
    const child = await enqueue("both.c", { dependsOn: ids });

    await sql`select queue.advance(1, ${jobs.map((job) => job.lease_id)}, ${jobs.map((job) => job.id)})`;

    assert.equal(await status(child), "pending");
  });

  it("a child with a time of its own is scheduled when its parents are done", async () => {
    const { complete, enqueue, inMs, start, status, take } = rigOf(context.db);
    const parent = await start("timed.p");
    const scheduledAt = await inMs(60_000);
    const child = await enqueue("timed.c", { dependsOn: [parent.id], scheduledAt });
    const late = await enqueue("late.c", { dependsOn: [parent.id], scheduledAt: await inMs(1000) });
    assert.equal(await status(child), "blocked");
    await context.db.advance(2000);

    await complete(parent);

    assert.deepEqual([await status(child), await status(late)], ["scheduled", "pending"]);
    await context.db.advance(60_000);
    assert.equal((await take("timed.c")).id, child);
  });

  it("a retry of the parent frees nobody yet", async () => {
    const { enqueue, fail, settle, start, status, take } = rigOf(context.db);
    const parent = await start("patient.p", { options: { backoff: { base_ms: 0 } } });
    const child = await enqueue("patient.c", { dependsOn: [parent.id] });

    await fail(parent);
    await settle(await take("patient.p"), { outcome: "snoozed", detail: { delay_ms: 0 } });
    await settle(await take("patient.p"), { outcome: "released" });

    assert.equal(await status(child), "blocked");
  });

  const badEnds: [string, (parent: Leased) => Promise<unknown>, string][] = [
    ["failed", (parent) => rigOf(context.db).fail(parent, "x", { retryable: false }), "failed"],
    [
      "was discarded",
      (parent) => rigOf(context.db).settle(parent, { outcome: "discarded" }),
      "failed",
    ],
    [
      "was cancelled",
      (parent) => rigOf(context.db).settle(parent, { outcome: "cancelled" }),
      "was cancelled",
    ],
  ];
  for (const [what, end, reason] of badEnds) {
    it(`when a parent ${what} its children are cancelled down to the grandchildren, with the reason`, async () => {
      const { enqueue, row, start } = rigOf(context.db);
      const parent = await start("bad.p", { maxRetries: 0 });
      const child = await enqueue("bad.c", { dependsOn: [parent.id] });
      const grandchild = await enqueue("bad.g", { dependsOn: [child] });
      const last = await enqueue("bad.l", { dependsOn: [grandchild, parent.id] });

      await end(parent);

      const [one, two, three] = [await row(child), await row(grandchild), await row(last)];
      assert.deepEqual(
        [one.status, one.last_error],
        ["cancelled", `its parent ${parent.id} ${reason}`],
      );
      assert.deepEqual(
        [two.status, two.last_error],
        ["cancelled", `its parent ${child} was cancelled`],
      );
      assert.equal(three.status, "cancelled");
      assert.deepEqual([await edgesOf(child), await edgesOf(last)], [0, 0]);
    });
  }

  it("a lost parent whose attempts are used up cancels its children too", async () => {
    const { enqueue, row, sql, start } = rigOf(context.db);
    const parent = await start("lost.p", { maxRetries: 0 }, { seconds: 10 });
    const child = await enqueue("lost.c", { dependsOn: [parent.id] });
    await context.db.advance(11_000);

    await sql`select public.cleanup_stuck_jobs()`;

    assert.equal((await row(child)).last_error, `its parent ${parent.id} failed`);
  });

  it("a parent cancelled while it waited cancels its children", async () => {
    const { enqueue, sql, status } = rigOf(context.db);
    const parent = await enqueue("idle.p");
    const child = await enqueue("idle.c", { dependsOn: [parent] });

    await sql`select public.cancel_job(${parent})`;

    assert.equal(await status(child), "cancelled");
  });

  it("a child that says so runs whatever becomes of its parents", async () => {
    const { complete, enqueue, fail, sql, start, status } = rigOf(context.db);
    const [failing, cancelled, good] = [
      await start("any.p", { maxRetries: 0 }),
      await start("any.p"),
      await start("any.p"),
    ];
    const child = await enqueue("any.c", {
      dependsOn: [failing.id, cancelled.id, good.id],
      options: { on_parent_failure: "run" },
    });
    const grandchild = await enqueue("any.g", { dependsOn: [child] });

    await fail(failing);
    await sql`select queue.settle_one(${cancelled.lease_id}, ${cancelled.id}, 'cancelled')`;
    assert.equal(await status(child), "blocked", "it still waits for the last one");
    await complete(good);

    assert.deepEqual([await status(child), await status(grandchild)], ["pending", "blocked"]);
  });

  it("a parent that completed before counts as done", async () => {
    const { complete, enqueue, row, start } = rigOf(context.db);
    const done = await start("early.p");
    await complete(done);
    const open = await enqueue("early.p");

    const [free, waiting] = [
      await enqueue("early.c", { dependsOn: [done.id] }),
      await enqueue("early.c", { dependsOn: [done.id, open] }),
    ];

    assert.deepEqual(
      [(await row(free)).status, (await row(free)).depends_on],
      ["pending", [done.id]],
    );
    assert.equal((await row(waiting)).status, "blocked");
  });

  it("a parent that failed or was cancelled before cancels the child at once, with its children", async () => {
    const { bury, enqueue, row, sql } = rigOf(context.db);
    const failed = await bury("dead.p");
    const made = await sql<{ id: string }[]>`
      select id from public.enqueue_jobs(${sql.json([
        { type: "dead.c", ref: "c", depends_on: [Number(failed)] },
        { type: "dead.g", depends_on_refs: ["c"] },
        { type: "dead.any", depends_on: [Number(failed)], options: { on_parent_failure: "run" } },
      ])})`;

    const [child, grandchild, any] = await Promise.all(made.map(({ id }) => row(id)));

    assert.deepEqual(
      [child?.status, child?.last_error],
      ["cancelled", "a parent had failed or was cancelled before this job was enqueued"],
    );
    assert.deepEqual(
      [grandchild?.status, grandchild?.last_error],
      ["cancelled", `its parent ${child?.id} was cancelled`],
    );
    assert.equal(any?.status, "pending");
    const again = await enqueue("dead.c", { dependsOn: [only(child).id] });
    assert.equal((await row(again)).status, "cancelled");
  });

  it("a redriven parent frees the children enqueued after that", async () => {
    const { bury, complete, enqueue, sql, status, take } = rigOf(context.db);
    const parent = await bury("second.p");
    await sql`select from public.redrive_jobs(array[${parent}]::bigint[])`;

    const child = await enqueue("second.c", { dependsOn: [parent] });
    assert.equal(await status(child), "blocked");
    await complete(await take("second.p"));

    assert.equal(await status(child), "pending");
  });

  it("a child reads the results of its parents, in the order it named them", async () => {
    const { bury, complete, enqueue, sql, start } = rigOf(context.db);
    const [a, b] = [await start("res.a"), await start("res.b")];
    const dead = await bury("res.dead");
    const child = await enqueue("res.c", {
      dependsOn: [a.id, b.id, dead],
      options: { on_parent_failure: "run" },
    });
    await complete(b, { words: 2 });
    await complete(a, [1]);

    const rows = await sql`select * from queue.parent_results(${child})`;

    assert.deepEqual(
      rows.map((row) => ({ ...row })),
      [
        { id: a.id, type: "res.a", status: "completed", result: [1] },
        { id: b.id, type: "res.b", status: "completed", result: { words: 2 } },
        { id: dead, type: "res.dead", status: "failed", result: null },
      ],
    );
  });

  it("a parent named twice is one parent", async () => {
    const { complete, enqueue, row, start } = rigOf(context.db);
    const parent = await start("dup.p");
    const child = await enqueue("dup.c", { dependsOn: [parent.id, parent.id] });
    assert.deepEqual((await row(child)).depends_on, [parent.id]);

    await complete(parent);

    assert.equal((await row(child)).status, "pending");
  });

  it("an empty list of parents is none", async () => {
    const { enqueue, status } = rigOf(context.db);

    assert.equal(await status(await enqueue("none", { dependsOn: [] })), "pending");
  });

  it("refuses a parent that does not exist", async () => {
    const { enqueue, sql } = rigOf(context.db);

    const unknown = await refusal(enqueue("x", { dependsOn: ["999999999"] }));
    const nothing = await refusal(
      sql`select public.enqueue_job('x', p_depends_on => array[null]::bigint[])`,
    );

    assert.deepEqual([unknown.code, nothing.code], ["MR007", "MR007"]);
    assert.match(unknown.message, /unknown parent job: 999999999/);
    assert.ok(unknown.detail && unknown.hint);
  });

  it("a child enqueued while its parent is just completing is freed by the sweep", async () => {
    const { sql, start, status } = rigOf(context.db);
    const parent = await start("race.p");
    const producer = context.db.connect({ max: 1 });

    const child = await producer.begin(async (tx) => {
      const [made] =
        await tx`select public.enqueue_job('race.c', p_depends_on => array[${parent.id}]::bigint[]) as id`;
      await sql`select public.complete_job(${parent.id}, null, ${parent.lease_id})`;
      return String(made?.["id"]);
    });
    assert.equal(await status(child), "blocked", "the end of the parent could not see it");
    await sql`select public.cleanup_stuck_jobs()`;

    assert.equal(await status(child), "pending");
    assert.equal(await edgesOf(child), 0);
  });

  it("the same when the parent fails: the sweep cancels the child", async () => {
    const { row, sql, start } = rigOf(context.db);
    const parent = await start("race.f", { maxRetries: 0 });
    const producer = context.db.connect({ max: 1 });

    const child = await producer.begin(async (tx) => {
      const [made] =
        await tx`select public.enqueue_job('race.c', p_depends_on => array[${parent.id}]::bigint[]) as id`;
      await sql`select public.fail_job(${parent.id}, 'no', p_lease_id => ${parent.lease_id})`;
      return String(made?.["id"]);
    });
    await sql`select queue.maintain()`;

    assert.deepEqual(
      [(await row(child)).status, (await row(child)).last_error],
      ["cancelled", `its parent ${parent.id} failed`],
    );
  });

  it("a pending parent is not claimed while a transaction that names it is open", async () => {
    const { claim, enqueue } = rigOf(context.db);
    const [named, other] = [await enqueue("held.p"), await enqueue("held.p")];
    const producer = context.db.connect({ max: 1 });

    const claimed = await producer.begin(async (tx) => {
      await tx`select public.enqueue_job('held.c', p_depends_on => array[${named}]::bigint[])`;
      return claim("held.p", { batch: 5 });
    });

    assert.deepEqual(
      claimed.map(({ id }) => id),
      [other],
    );
    assert.equal((await claim("held.p"))[0]?.id, named);
  });

  it("three hundred children of one parent, and a chain of fifty, end as one would think", async () => {
    const { claim, complete, sql, start } = rigOf(context.db);
    const parent = await start("wide.p");
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'wide.c', 'depends_on', jsonb_build_array(${parent.id}::bigint)))
      from generate_series(1, 300)))`;
    const chain = await sql<{ id: string }[]>`select id from public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'chain', 'ref', n::text, 'depends_on_refs',
        case when n > 1 then jsonb_build_array((n - 1)::text) else '[]' end) order by n) from generate_series(1, 50) as n))`;

    await complete(parent);
    await sql`select public.cancel_job(${only(chain[0]).id})`;

    assert.equal((await claim("wide.c", { batch: 1000 })).length, 300);
    const [left] = await sql`
      select count(*)::int as n from public.job_queue where type = 'chain' and status <> 'cancelled'`;
    assert.equal(left?.["n"], 0);
  });
});
