import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeOnEachServer, type SuiteContext } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";

// What is pending alone is claimed by a way of its own.
describeOnEachServer("get_next_job", (context) => suite(context, false));
describeOnEachServer("get_next_job beside the work of others", (context) => suite(context, true));

function suite(context: SuiteContext, isCrowded: boolean): void {
  beforeEach(async () => {
    const { clear, crowd } = rigOf(context.db);
    await clear();
    if (isCrowded) await crowd();
  });

  it("hands out a pending job with all that a worker needs", async () => {
    const { claim, enqueue, row } = rigOf(context.db);
    const id = await enqueue("all", {
      payload: { to: "ada" },
      priority: "high",
      tenant: "acme",
      queue: "line",
      maxRetries: 5,
    });
    const { created_at } = await row(id);
    const now = await context.db.now();

    const jobs = await claim("all", { worker: "worker-1", seconds: 90 });

    const job = only(jobs[0]);
    const { lease_id, lease_expires_at, ...facts } = job;
    assert.deepEqual(facts, {
      id,
      type: "all",
      queue: "line",
      priority: "high",
      payload: { to: "ada" },
      tenant_id: "acme",
      attempt: 1,
      max_retries: 5,
      created_at,
    });
    assert.match(lease_id, /^\d+$/);
    assert.ok(Math.abs(lease_expires_at.getTime() - now.getTime() - 90_000) < 5000);
    assert.deepEqual(
      [(await row(id)).status, (await row(id)).worker_id, (await row(id)).attempts],
      ["processing", "worker-1", 1],
    );
  });

  it("hands out each job once", async () => {
    const { claim, enqueue } = rigOf(context.db);
    await enqueue("once");

    const counts = [(await claim("once")).length, (await claim("once")).length];

    assert.deepEqual(counts, [1, 0]);
  });

  it("gives back what a rolled back claim took", async () => {
    const { claim, enqueue, sql, status } = rigOf(context.db);
    const id = await enqueue("back");

    await assert.rejects(
      sql.begin(async (tx) => {
        await tx`select from public.get_next_job('w', array['back'])`;
        throw new Error("no");
      }),
      /no/,
    );

    assert.equal(await status(id), "pending");
    assert.deepEqual(
      (await claim("back")).map(({ attempt }) => attempt),
      [1],
    );
  });

  it("serves the oldest first", async () => {
    const { claim, enqueue } = rigOf(context.db);
    const ids = [await enqueue("old"), await enqueue("old"), await enqueue("old")];

    const claimed = [...(await claim("old", { batch: 2 })), ...(await claim("old", { batch: 2 }))];

    assert.deepEqual(
      claimed.map(({ id }) => id),
      ids,
    );
  });

  it("holds priority over all queues, whatever is older", async () => {
    const { claim, enqueue } = rigOf(context.db);
    for (const [type, priority] of [
      ["one", "low"],
      ["two", "normal"],
      ["one", "high"],
      ["three", "critical"],
      ["two", "low"],
      ["three", "normal"],
      ["one", "critical"],
    ] as const) {
      await enqueue(type, { priority });
    }

    const jobs = await claim(null, { batch: 10 });

    assert.deepEqual(
      jobs.map(({ type, priority }) => `${type} ${priority}`),
      [
        "three critical",
        "one critical",
        "one high",
        "two normal",
        "three normal",
        "one low",
        "two low",
      ],
    );
  });

  it("holds priority for single claims as well", async () => {
    const { claim, enqueue } = rigOf(context.db);
    await enqueue("x", { priority: "low" });
    await enqueue("y", { priority: "normal" });
    await enqueue("z", { priority: "critical" });

    const order = [await claim(null), await claim(null), await claim(null)];

    assert.deepEqual(
      order.map((jobs) => jobs[0]?.type),
      ["z", "y", "x"],
    );
  });

  it("fills a batch from several queues", async () => {
    const { claim, enqueue } = rigOf(context.db);
    const ids = [await enqueue("q1"), await enqueue("q2"), await enqueue("q3")];

    const jobs = await claim(null, { batch: 3 });

    assert.deepEqual(jobs.map(({ id }) => id).sort(), [...ids].sort());
    assert.equal(new Set(jobs.map(({ lease_id }) => lease_id)).size, 1, "one lease for the batch");
  });

  it("takes no more than the batch", async () => {
    const { claim, enqueue } = rigOf(context.db);
    await Promise.all(Array.from({ length: 5 }, () => enqueue("many")));

    assert.equal((await claim("many", { batch: 3 })).length, 3);
    assert.equal((await claim("many", { batch: 3 })).length, 2);
  });

  it("takes only the types asked for, in whatever queue they wait", async () => {
    const { claim, enqueue } = rigOf(context.db);
    await enqueue("wanted", { queue: "shared" });
    await enqueue("other", { queue: "shared" });
    await enqueue("wanted");
    await enqueue("wanted.not");

    const jobs = await claim("wanted", { batch: 10 });

    assert.deepEqual(
      jobs.map(({ type, queue }) => `${type} in ${queue}`),
      ["wanted in shared", "wanted in wanted"],
    );
    assert.equal((await claim(["other", "wanted.not"], { batch: 10 })).length, 2);
  });

  it("finds nothing for types that nobody ever enqueued, nor for none", async () => {
    const { claim, enqueue } = rigOf(context.db);
    await enqueue("some");

    assert.deepEqual([...(await claim("never-heard-of"))], []);
    assert.deepEqual([...(await claim([]))], []);
  });

  it("takes only jobs of the tenant asked for", async () => {
    const { claim, enqueue } = rigOf(context.db);
    await enqueue("t");
    await enqueue("t", { tenant: "a" });
    const ids = [await enqueue("t", { tenant: "b" }), await enqueue("t2", { tenant: "b" })];

    const jobs = await claim(null, { tenant: "b", batch: 10 });

    assert.deepEqual(
      jobs.map(({ id }) => id),
      ids,
    );
    assert.deepEqual([...(await claim(null, { tenant: "nobody", batch: 10 }))], []);
  });

  it("claim_next_job is the same for one job", async () => {
    const { enqueue, sql, row } = rigOf(context.db);
    await enqueue("one", { priority: "low" });
    const urgent = await enqueue("two", { priority: "high", tenant: "a" });
    const own = await enqueue("one", { tenant: "b" });

    const [first] = await sql`select * from public.claim_next_job('simple')`;
    const [second] = await sql`select * from public.claim_next_job('simple', 'b', 30)`;

    assert.equal(first?.["id"], urgent);
    assert.equal(second?.["id"], own);
    assert.equal((await row(own)).worker_id, "simple");
  });

  it("takes no job before its time, and promotes it when the time has come", async () => {
    const { claim, enqueue, inMs, status } = rigOf(context.db);
    const id = await enqueue("due", { scheduledAt: await inMs(60_000) });

    assert.deepEqual([...(await claim("due"))], []);
    await context.db.advance(59_000);
    assert.deepEqual([...(await claim("due"))], []);
    assert.equal(await status(id), "scheduled");
    await context.db.advance(1000);

    assert.deepEqual(
      (await claim("due")).map((job) => job.id),
      [id],
    );
  });

  it("serves jobs that fell due in the order of their times", async () => {
    const { claim, enqueue, inMs } = rigOf(context.db);
    const late = await enqueue("order", { scheduledAt: await inMs(2000) });
    const early = await enqueue("order", { scheduledAt: await inMs(1000) });
    await context.db.advance(5000);
    const fresh = await enqueue("order");

    const jobs = await claim("order", { batch: 3 });

    assert.deepEqual(
      jobs.map(({ id }) => id),
      [early, late, fresh],
    );
  });

  it("promotes more jobs than one claim moves", async () => {
    const { claim, inMs, sql } = rigOf(context.db);
    const at = await inMs(1000);
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'flood', 'scheduled_at', ${at}::timestamptz))
      from generate_series(1, 1500)))`;
    await context.db.advance(2000);

    const first = await claim("flood", { batch: 1000 });
    const second = await claim("flood", { batch: 1000 });

    assert.deepEqual([first.length, second.length], [1000, 500]);
  });

  it("signs the caller in and shows that it lives", async () => {
    const { claim, sql } = rigOf(context.db);
    const seen = () => sql<{ seen_at: Date; type_names: string[] | null }[]>`
      select seen_at, type_names from queue.workers where name = 'sign'`;

    await claim("a", { worker: "sign" });
    const [first] = await seen();
    await context.db.advance(6000);
    await claim(["a", "b"], { worker: "sign" });
    const [second] = await seen();

    assert.deepEqual([only(first).type_names, only(second).type_names], [["a"], ["a", "b"]]);
    assert.ok(only(second).seen_at.getTime() - only(first).seen_at.getTime() >= 6000);
  });

  it("leases suspects alone, beside the batch of the others", async () => {
    const { claim, enqueue, sql } = rigOf(context.db);
    const suspects = [await enqueue("sus"), await enqueue("sus")];
    await claim("sus", { batch: 2, seconds: 10 });
    await context.db.advance(11_000);
    await sql`select public.cleanup_stuck_jobs()`;
    const fresh = [await enqueue("sus"), await enqueue("sus")];

    const jobs = await claim("sus", { batch: 4 });

    const leaseOf = new Map(jobs.map(({ id, lease_id }) => [id, lease_id]));
    assert.equal(new Set(leaseOf.values()).size, 3);
    assert.equal(leaseOf.get(only(fresh[0])), leaseOf.get(only(fresh[1])));
    assert.notEqual(leaseOf.get(only(suspects[0])), leaseOf.get(only(suspects[1])));
    assert.deepEqual(
      jobs.map(({ attempt }) => attempt),
      [1, 1, 1, 1],
      "the batch was not charged",
    );
  });

  const bad: [string, unknown[]][] = [
    ["no worker id", [null, 1, 60]],
    ["an empty worker id", ["", 1, 60]],
    ["a worker id of 201 characters", ["w".repeat(201), 1, 60]],
    ["a batch of none", ["w", 0, 60]],
    ["a negative batch", ["w", -1, 60]],
    ["a batch of more than 1000", ["w", 1001, 60]],
    ["no batch", ["w", null, 60]],
    ["no lease", ["w", 1, null]],
    ["a lease shorter than a second", ["w", 1, 0.5]],
    ["a lease longer than a day", ["w", 1, 86_401]],
    ["a lease that is no number", ["w", 1, "NaN"]],
  ];
  for (const [what, [worker, batch, seconds]] of bad) {
    it(`refuses ${what}`, async () => {
      const { enqueue, sql, status } = rigOf(context.db);
      const id = await enqueue("bad");

      const refused = await refusal(
        sql`select * from public.get_next_job(${worker as string}, null, ${batch as number}, null, ${seconds as number})`,
      );

      assert.equal(refused.code, "MR013");
      assert.ok(refused.detail && refused.hint);
      assert.equal(await status(id), "pending");
    });
  }
}
