import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

/** What one end of a parent does at once, and what one sweep does. */
const SLICE = 1_000;

describeOnEachServer("children in slices", (context) => {
  beforeEach(() => rigOf(context.db).clear());

  /** Enqueues so many jobs that wait for a parent; their ids. */
  async function children(parent: string, count: number, more: object = {}): Promise<string[]> {
    const rows = await context.db.sql<{ id: string }[]>`
      select made.id::text from public.enqueue_jobs((
        select jsonb_agg(jsonb_build_object('type', 'child', 'depends_on', jsonb_build_array(${parent}::bigint))
          || ${context.db.sql.json(more as never)}) from generate_series(1, ${count})
      )) as made order by made.ordinal`;
    return rows.map(({ id }) => id);
  }

  /** How many of these stand where. */
  async function counts(ids: readonly string[]): Promise<Record<string, number>> {
    const rows = await context.db.sql<{ status: string; n: number }[]>`
      select status, count(*)::integer as n from public.job_queue where id = any (${ids}::bigint[]) group by status`;
    return Object.fromEntries(rows.map(({ status, n }) => [status, n]));
  }

  async function sweep(
    sql: TestSql = context.db.sql,
  ): Promise<{ swept: number; is_more: boolean }> {
    const [row] = await sql<{ answer: { swept: number; is_more: boolean } }[]>`
      select queue.sweep_children() as answer`;
    return only(row).answer;
  }

  /** Sweeps until nothing is left; how often. */
  async function sweepAll(): Promise<number> {
    for (let n = 1; n < 100; n += 1) if (!(await sweep()).is_more) return n;
    return assert.fail("it does not come to an end");
  }

  it("a parent of many is completed at once, and its children become pending slice by slice", async () => {
    const { complete, sql, start, status } = rigOf(context.db);
    const parent = await start("parent");
    const ids = await children(parent.id, 12_500);

    await complete(parent);
    const first = [await status(parent.id), await counts(ids)];
    const once = await sweep();
    const sweeps = await sweepAll();

    assert.deepEqual(first, ["completed", { pending: SLICE, blocked: 12_500 - SLICE }]);
    assert.deepEqual(once, { swept: 5_000, is_more: true });
    assert.equal(sweeps, 2);
    assert.deepEqual(await counts(ids), { pending: 12_500 });
    assert.equal((await sql`select from queue.dependencies`).length, 0);
    assert.equal((await sql`select from queue.ready`).length, 12_500);
  });

  it("a worker is told that children are left, and maintenance goes on as well", async () => {
    const { complete, sql, start } = rigOf(context.db);
    const parent = await start("parent");
    const ids = await children(parent.id, SLICE + 10);
    await complete(parent);

    const [told] = await sql<{ left: boolean }[]>`
      select queue.advance(1, p_rest => '[]') -> 'has_children_left' as left`;
    await sql`select queue.maintain()`;
    const [after] = await sql<{ left: boolean }[]>`
      select queue.advance(1, p_rest => '[]') -> 'has_children_left' as left`;

    assert.deepEqual([told?.left, after?.left], [true, false]);
    assert.deepEqual(await counts(ids), { pending: SLICE + 10 });
  });

  it("a failure cascades through all generations, each job cancelled once and for the right parent", async () => {
    const { fail, sql, start, status } = rigOf(context.db);
    const parent = await start("parent");
    const ids = await children(parent.id, 1_500);
    const grandchildren: string[] = [];
    for (const id of [ids[0], ids[700], ids[1_499]]) {
      grandchildren.push(...(await children(id ?? "", 2_000)));
    }
    const [, ...anyway] = await children(parent.id, 3, { options: { on_parent_failure: "run" } });

    await fail(parent, "boom", { retryable: false });
    const first = await counts([...ids, ...grandchildren]);
    await sweepAll();

    assert.equal(await status(parent.id), "failed");
    assert.equal(first["cancelled"], SLICE);
    assert.deepEqual(await counts([...ids, ...grandchildren]), { cancelled: 7_500 });
    assert.deepEqual(await counts(anyway), { pending: 2 });
    const wrong = await sql`
      select run.job_id from queue.runs as run join queue.jobs as job on job.id = run.job_id
      where run.job_id = any (${[...ids, ...grandchildren]}::bigint[])
      group by run.job_id, job.depends_on
      having count(*) <> 1 or array_agg(run.cause_id) <> job.depends_on`;
    assert.equal(wrong.length, 0);
  });

  it("a long chain is cancelled in slices too", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const first = await enqueue("chain");
    const rows = await sql<{ id: string }[]>`
      select made.id::text from public.enqueue_jobs((
        select jsonb_agg(jsonb_build_object('type', 'chain', 'ref', n::text)
          || case when n = 1 then jsonb_build_object('depends_on', jsonb_build_array(${first}::bigint))
            else jsonb_build_object('depends_on_refs', jsonb_build_array((n - 1)::text)) end order by n)
        from generate_series(1, 1200) as n
      )) as made order by made.ordinal`;
    const ids = rows.map(({ id }) => id);

    await sql`select public.cancel_job(${first})`;
    const atOnce = (await counts(ids))["cancelled"] ?? 0;
    await sweepAll();

    assert.ok(atOnce >= 40 && atOnce <= 60, `${atOnce} at once`);
    assert.deepEqual(await counts(ids), { cancelled: 1_200 });
  });

  it("what a stranger holds keeps nothing else waiting, however much it is, and follows when it is free", async () => {
    const { complete, start } = rigOf(context.db);
    const [held, other] = [await start("parent"), await start("parent")];
    const many = await children(held.id, 6_000);
    const few = await children(other.id, SLICE + 500);
    const [stranger, session] = [context.db.connect({ max: 1 }), context.db.connect({ max: 1 })];
    await session`set lock_timeout = '100ms'`;

    await stranger`begin`;
    await stranger`select public.enqueue_jobs(jsonb_build_array(jsonb_build_object(
      'type', 'grandchild', 'depends_on', to_jsonb(${many}::bigint[]))))`;
    await session`select public.complete_job(${held.id}, null, ${held.lease_id})`;
    await session`select public.complete_job(${other.id}, null, ${other.lease_id})`;
    for (let n = 0; n < 4; n += 1) await sweep(session);
    const between = [await counts(many), await counts(few)];
    await stranger`commit`;
    await sweepAll();

    assert.deepEqual(between, [{ blocked: 6_000 }, { pending: SLICE + 500 }]);
    assert.deepEqual(await counts(many), { pending: 6_000 });
    await complete(await start("parent"));
  });

  it("children that have not heard of a failure wait on when their parent is run again", async () => {
    const { complete, fail, sql, start, take } = rigOf(context.db);
    const parent = await start("parent");
    const ids = await children(parent.id, SLICE + 300);
    await fail(parent, "boom", { retryable: false });

    await sql`select public.redrive_jobs(array[${parent.id}]::bigint[])`;
    await sql`select queue.maintain()`;
    const between = await counts(ids);
    await complete(await take("parent"));
    await sweepAll();

    assert.deepEqual(between, { cancelled: SLICE, blocked: 300 });
    assert.deepEqual(await counts(ids), { cancelled: SLICE, pending: 300 });
  });

  it("who gets the key of a cancelled job leaves what its end has still to tell", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const parent = await enqueue("keyed", { key: "k" });
    const ids = await children(parent, SLICE + 300);
    await sql`select public.cancel_job(${parent})`;

    const one = await enqueue("keyed", { key: "k" });
    await sql`select public.cancel_job(${one})`;
    await sql`select public.enqueue_jobs('[{"type": "keyed", "idempotency_key": "k"}]')`;
    await sweepAll();

    assert.notEqual(one, parent);
    assert.deepEqual(await counts(ids), { cancelled: SLICE + 300 });
  });

  it("a job that stays cancelled because of its other parent goes on telling its children", async () => {
    const { enqueue, fail, sql, take } = rigOf(context.db);
    const [one, two] = [await enqueue("one"), await enqueue("two")];
    const child = await enqueue("middle", { dependsOn: [one, two] });
    const ids = await children(child, SLICE + 300);
    await fail(await take("one"), "boom", { retryable: false });
    await fail(await take("two"), "boom", { retryable: false });
    const first = await counts(ids);

    await sql`select public.redrive_jobs(array[${one}]::bigint[], p_with_descendants => true)`;
    await sweepAll();

    assert.ok((first["blocked"] ?? 0) > 0, "the first end left some");
    assert.deepEqual(await counts([child]), { cancelled: 1 });
    assert.deepEqual(await counts(ids), { cancelled: SLICE + 300 });
  });
});
