import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { backendPid, waitForLockWait } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

interface Filter {
  readonly ids?: readonly string[];
  readonly type?: string;
  readonly tenant?: string;
  readonly fingerprint?: string;
  readonly before?: Date;
  readonly limit?: number;
  readonly dryRun?: boolean;
}

interface Redriven {
  readonly id: string;
  readonly new_id: string;
  readonly type: string;
  readonly tenant_id: string | null;
  readonly failed_at: Date;
  readonly last_error: string;
}

describeOnEachServer("redrive_jobs", (context) => {
  beforeEach(async () => {
    await context.db.sql`delete from queue.dead_letters`;
  });

  function redrive(filter: Filter): Promise<Redriven[]> {
    return context.db.sql<Redriven[]>`
      select * from public.redrive_jobs(
        p_ids => ${filter.ids ? [...filter.ids] : null}, p_type => ${filter.type ?? null},
        p_tenant_id => ${filter.tenant ?? null}, p_fingerprint => ${filter.fingerprint ?? null},
        p_failed_before => ${filter.before ?? null}, p_limit => ${filter.limit ?? 1000},
        p_dry_run => ${filter.dryRun ?? false}, p_reason => 'fixed')`;
  }

  async function redrivenIds(filter: Filter): Promise<string[]> {
    return (await redrive(filter)).map(({ id }) => id);
  }

  it("puts dead letters back to pending, with a fresh budget", async () => {
    const { bury, row, sql, take } = rigOf(context.db);
    const id = await bury("back", { tenant: "acme", maxRetries: 2 }, "no disk");

    const rows = await redrive({ ids: [id] });

    const { failed_at, ...facts } = only(rows[0]);
    assert.deepEqual(facts, {
      id,
      new_id: id,
      type: "back",
      tenant_id: "acme",
      last_error: "no disk",
    });
    assert.ok(failed_at instanceof Date);
    assert.deepEqual([(await row(id)).status, (await row(id)).attempts], ["pending", 0]);
    assert.equal((await sql`select from queue.dead_letters where job_id = ${id}`).length, 0);
    assert.equal((await take("back")).attempt, 1);
  });

  it("a dry run only tells which", async () => {
    const { bury, status, trail } = rigOf(context.db);
    const id = await bury("dry");
    const before = await trail(id);

    assert.deepEqual(await redrivenIds({ type: "dry", dryRun: true }), [id]);

    assert.equal(await status(id), "failed");
    assert.deepEqual(await trail(id), before);
    assert.deepEqual(await redrivenIds({ type: "dry" }), [id]);
  });

  it("chooses by ids", async () => {
    const { bury } = rigOf(context.db);
    const [one, , three] = [await bury("i"), await bury("i"), await bury("i")];

    assert.deepEqual(await redrivenIds({ ids: [three, one, "999999999"] }), [one, three]);
    assert.deepEqual(await redrivenIds({ ids: [] }), []);
  });

  it("chooses by type", async () => {
    const { bury } = rigOf(context.db);
    const wanted = await bury("wanted");
    await bury("unwanted");

    assert.deepEqual(await redrivenIds({ type: "wanted" }), [wanted]);
    assert.deepEqual(await redrivenIds({ type: "never-heard-of" }), []);
  });

  it("chooses by tenant", async () => {
    const { bury } = rigOf(context.db);
    await bury("t", { tenant: "a" });
    const wanted = await bury("t", { tenant: "b" });
    await bury("t");

    assert.deepEqual(await redrivenIds({ tenant: "b" }), [wanted]);
    assert.deepEqual(await redrivenIds({ tenant: "nobody" }), []);
  });

  it("chooses by fingerprint", async () => {
    const { bury, sql } = rigOf(context.db);
    const wanted = [
      await bury("f", {}, "timeout after 10 ms"),
      await bury("f", {}, "timeout after 7 ms"),
    ];
    await bury("f", {}, "refused");
    const [letter] = await sql<{ fingerprint: string }[]>`
      select fingerprint from public.job_dead_letter where id = ${only(wanted[0])}`;

    assert.deepEqual(await redrivenIds({ fingerprint: only(letter).fingerprint }), wanted);
  });

  it("chooses by age", async () => {
    const { bury, inMs } = rigOf(context.db);
    const old = await bury("age");
    await context.db.advance(60_000);
    const before = await inMs(-1000);
    await bury("age");

    assert.deepEqual(await redrivenIds({ before }), [old]);
  });

  it("all filters must hold", async () => {
    const { bury } = rigOf(context.db);
    const both = await bury("x", { tenant: "a" });
    const other = await bury("x", { tenant: "b" });
    await bury("y", { tenant: "a" });

    assert.deepEqual(await redrivenIds({ type: "x", tenant: "a", ids: [both, other] }), [both]);
  });

  it("takes the oldest first, no more than the limit", async () => {
    const { bury } = rigOf(context.db);
    const ids = [await bury("l"), await bury("l"), await bury("l")];

    assert.deepEqual(await redrivenIds({ limit: 2 }), ids.slice(0, 2));
    assert.deepEqual(await redrivenIds({ limit: 2 }), ids.slice(2));
  });

  it("counts how often a job was redriven", async () => {
    const { bury, fail, sql, take } = rigOf(context.db);
    const id = await bury("count");
    await redrive({ ids: [id] });
    await fail(await take("count"), "again", { retryable: false });

    const [letter] =
      await sql`select redrive_count, errors from public.job_dead_letter where id = ${id}`;

    assert.equal(letter?.["redrive_count"], 1);
    assert.deepEqual(
      letter?.["errors"].map((one: { error: { message: string } }) => one.error.message),
      ["boom", "again"],
    );
  });

  it("makes a new job of the copy when the partition with the facts is gone", async () => {
    const { bury, row, sql, take } = rigOf(context.db);
    const id = await bury("gone", {
      payload: { to: "ada" },
      priority: "high",
      tenant: "acme",
      queue: "gone-line",
      maxRetries: 4,
      options: { timeout_ms: 9 },
    });
    await sql`delete from queue.jobs where id = ${id}`;
    await sql`delete from queue.runs where job_id = ${id}`;

    const rows = await redrive({ ids: [id] });

    const made = only(rows[0]).new_id;
    assert.notEqual(made, id);
    const job = await row(made);
    assert.deepEqual(
      [job.type, job.queue, job.priority, job.tenant_id, job.max_retries, job.payload, job.options],
      ["gone", "gone-line", "high", "acme", 4, { to: "ada" }, { timeout_ms: 9 }],
    );
    assert.equal((await take("gone")).id, made);
    assert.equal((await sql`select from queue.dead_letters where job_id = ${id}`).length, 0);
    const [entry] =
      await sql`select action, detail from queue.audit where job_id = ${id} order by id desc limit 1`;
    assert.deepEqual(entry?.["detail"], { new_id: Number(made), reason: "fixed" });
  });

  it("of two at once the second waits and redrives nothing twice", async () => {
    const { bury, claim, sql } = rigOf(context.db);
    const id = await bury("both");
    const [one, two] = [context.db.connect({ max: 1 }), context.db.connect({ max: 1 })];
    const pid = await backendPid(two);
    const { second } = await one.begin(async (tx) => {
      await tx`select from public.redrive_jobs(p_type => 'both')`;
      const second = two`select id from public.redrive_jobs(p_type => 'both')`.execute();
      await waitForLockWait(sql, pid);
      return { second };
    });

    assert.deepEqual([...(await second)], []);
    assert.deepEqual(
      (await claim("both", { batch: 5 })).map((job) => job.id),
      [id],
    );
  });

  it("redrives hundreds in one call", async () => {
    const { sql } = context.db;
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'mass', 'max_retries', 0)) from generate_series(1, 600)))`;
    for (const batch of [300, 300]) {
      await sql`
        with job as materialized (select * from public.get_next_job('w', array['mass'], ${batch}))
        select queue.advance(1, p_rest => (
          select jsonb_agg(jsonb_build_object('lease', lease_id, 'id', id, 'outcome', 'failed')) from job))`;
    }

    const [row] = await sql<{ n: number }[]>`
      select count(*)::int as n from public.redrive_jobs(p_type => 'mass', p_limit => 5000)`;

    assert.equal(row?.n, 600);
    const [stats] =
      await sql`select pending::int, dead_letters::int from public.queue_stats('mass')`;
    assert.deepEqual({ ...stats }, { pending: 600, dead_letters: 0 });
  });
});
