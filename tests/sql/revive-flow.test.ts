import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

describeOnEachServer("a flow that comes back with its failed parent", (context) => {
  beforeEach(() => rigOf(context.db).clear());

  async function redrive(ids: readonly string[], withDescendants = true): Promise<void> {
    await context.db.sql`
      select public.redrive_jobs(p_ids => ${ids}::bigint[], p_with_descendants => ${withDescendants})`;
  }

  async function retry(id: string): Promise<string | null> {
    const [row] = await context.db.sql<{ status: string | null }[]>`
      select public.retry_job(${id}, 'again', p_with_descendants => true) as status`;
    return only(row).status;
  }

  async function statuses(...ids: string[]): Promise<string[]> {
    return Promise.all(ids.map((id) => rigOf(context.db).status(id)));
  }

  /** A blocked job's open parents, as its token counts them and as its edges name them. */
  async function parents(id: string): Promise<[number, string[]]> {
    const [row] = await context.db.sql<{ n: number; ids: string[] }[]>`
      select open_parents as n, array(
        select parent_id::text from queue.dependencies where child_id = ${id} order by parent_id
      ) as ids from queue.waiting where id = ${id}`;
    return [only(row).n, only(row).ids];
  }

  it("runs again in its order: parents first, then those that they had cancelled", async () => {
    const { complete, enqueue, take, trail } = rigOf(context.db);
    const extract = await enqueue("extract", { priority: "critical" });
    const load = await enqueue("load", { dependsOn: [extract], tenant: "acme" });
    const report = await enqueue("report", { dependsOn: [load, extract] });
    const mail = await enqueue("mail", { dependsOn: [report] });
    await rigOf(context.db).fail(await take("extract"), "boom", { retryable: false });
    assert.deepEqual(await statuses(load, report, mail), Array(3).fill("cancelled"));

    await redrive([extract]);

    assert.deepEqual(await statuses(extract, load, report, mail), [
      "pending",
      ...Array(3).fill("blocked"),
    ]);
    assert.deepEqual(await parents(report), [2, [extract, load]]);
    await complete(await take("extract"));
    assert.deepEqual(await statuses(load, report, mail), ["pending", "blocked", "blocked"]);
    const again = await take("load");
    assert.deepEqual([again.id, again.attempt, again.tenant_id], [load, 1, "acme"]);
    await complete(again);
    await complete(await take("report"));
    assert.deepEqual(await statuses(load, report, mail), ["completed", "completed", "pending"]);
    assert.deepEqual(await trail(load), [
      ">blocked",
      "blocked>cancelled",
      "cancelled>blocked",
      "blocked>pending",
      "pending>processing",
      "processing>completed",
    ]);
  });

  it("without the option stays cancelled, as ever", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const bad = await enqueue("bad");
    const child = await enqueue("child", { dependsOn: [bad] });
    await rigOf(context.db).fail(await rigOf(context.db).take("bad"), "boom", { retryable: false });

    await redrive([bad], false);

    assert.deepEqual(await statuses(bad, child), ["pending", "cancelled"]);
    assert.equal((await sql`select from queue.waiting`).length, 0);
  });

  it("leaves alone what was cancelled for another reason, and what has run since", async () => {
    const { complete, enqueue, fail, sql, take } = rigOf(context.db);
    const bad = await enqueue("bad");
    const byHand = await enqueue("child", { dependsOn: [bad] });
    const below = await enqueue("child", { dependsOn: [byHand] });
    const alone = await enqueue("alone", { dependsOn: [bad] });
    const lost = await enqueue("child", { dependsOn: [bad] });
    await sql`select public.cancel_job(${byHand})`;
    await fail(await take("bad"), "boom", { retryable: false });
    await sql`select public.retry_job(${alone})`;
    await complete(await take("alone"));

    await redrive([bad]);

    assert.deepEqual(await statuses(byHand, below, alone, lost), [
      "cancelled",
      "cancelled",
      "completed",
      "blocked",
    ]);
  });

  it("a child of two failed parents comes back with the last of them", async () => {
    const { complete, enqueue, fail, take } = rigOf(context.db);
    const [one, two] = [await enqueue("one"), await enqueue("two")];
    const child = await enqueue("child", { dependsOn: [one, two] });
    const below = await enqueue("below", { dependsOn: [child] });
    await fail(await take("one"), "boom", { retryable: false });
    await fail(await take("two"), "boom", { retryable: false });

    await redrive([one]);
    const first = await statuses(one, child, below);
    await complete(await take("one"));
    await redrive([two]);
    const second = await statuses(two, child, below);
    const open = await parents(child);
    await complete(await take("two"));

    assert.deepEqual(first, ["pending", "cancelled", "cancelled"]);
    assert.deepEqual(second, ["pending", "blocked", "blocked"]);
    assert.deepEqual(open, [1, [two]]);
    assert.deepEqual(await statuses(child, below), ["pending", "blocked"]);
  });

  it("both redriven at once bring it back at once", async () => {
    const { complete, enqueue, fail, take } = rigOf(context.db);
    const [one, two] = [await enqueue("one"), await enqueue("two")];
    const child = await enqueue("child", { dependsOn: [one, two] });
    await fail(await take("one"), "boom", { retryable: false });
    await fail(await take("two"), "boom", { retryable: false });

    await redrive([two, one]);
    const open = await parents(child);
    await complete(await take("two"));
    await complete(await take("one"));

    assert.deepEqual(open, [2, [one, two]]);
    assert.equal(await rigOf(context.db).status(child), "pending");
  });

  it("a parent that was open all the time is waited for once, and one that ended meanwhile not at all", async () => {
    const { complete, enqueue, fail, start, take } = rigOf(context.db);
    const bad = await enqueue("bad");
    const [ended, running, open] = [
      await start("ended"),
      await start("running"),
      await enqueue("open"),
    ];
    const child = await enqueue("child", { dependsOn: [bad, ended.id, running.id, open] });
    await fail(await take("bad"), "boom", { retryable: false });
    await complete(ended);

    await redrive([bad]);

    assert.deepEqual(await parents(child), [3, [bad, running.id, open]]);
    await complete(running);
    await complete(await take("open"));
    assert.equal(await rigOf(context.db).status(child), "blocked");
    await complete(await take("bad"));
    assert.equal(await rigOf(context.db).status(child), "pending");
  });

  it("retry_job brings back what a cancelled job took with it", async () => {
    const { enqueue, inMs, row, sql } = rigOf(context.db);
    const parent = await enqueue("parent");
    const later = await inMs(3_600_000);
    const child = await enqueue("child", { dependsOn: [parent], scheduledAt: later });
    const late = await enqueue("late", { dependsOn: [child] });
    await sql`select public.cancel_job(${parent})`;
    const doomed = await enqueue("late", { dependsOn: [parent] });

    assert.equal(await retry(parent), "pending");

    assert.deepEqual(await statuses(parent, child, late, doomed), [
      "pending",
      ...Array(3).fill("blocked"),
    ]);
    assert.equal(Number((await row(child)).scheduled_at), Number(later));
    const acts = await sql<{ job_id: string }[]>`
      select job_id::text from queue.audit
      where action = 'redriven' and job_id = any (${[parent, child, late, doomed]}::bigint[]) order by job_id`;
    assert.deepEqual(
      acts.map(({ job_id }) => job_id),
      [parent, child, late, doomed],
    );
  });

  it("a parent that completed and has not freed the child yet does not free it twice", async () => {
    const { complete, enqueue, fail, sql, start, take } = rigOf(context.db);
    const [bad, big] = [await enqueue("bad"), await start("big")];
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'many', 'depends_on', jsonb_build_array(${big.id}::bigint)))
      from generate_series(1, 1200)))`;
    const child = await enqueue("child", { dependsOn: [bad, big.id] });
    await fail(await take("bad"), "boom", { retryable: false });
    await complete(big);

    await redrive([bad]);
    const open = await parents(child);
    await sql`select queue.sweep_children()`;
    const between = await statuses(child);
    await complete(await take("bad"));

    assert.deepEqual([open, between], [[1, [bad]], ["blocked"]]);
    assert.deepEqual(await statuses(child), ["pending"]);
  });

  it("what is still being cancelled, slice by slice, comes back too", async () => {
    const { complete, enqueue, fail, sql, take } = rigOf(context.db);
    const parent = await enqueue("parent");
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'many', 'depends_on', jsonb_build_array(${parent}::bigint)))
      from generate_series(1, 1500)))`;
    await fail(await take("parent"), "boom", { retryable: false });

    await redrive([parent]);
    await sql`select queue.maintain()`;
    const [blocked] = await sql<{ n: number }[]>`select count(*)::integer as n from queue.waiting`;
    await complete(await take("parent"));
    await sql`select queue.sweep_children()`;
    const [ready] = await sql<{ n: number }[]>`select count(*)::integer as n from queue.ready`;

    assert.deepEqual([blocked?.n, ready?.n], [1_500, 1_500]);
  });
});
