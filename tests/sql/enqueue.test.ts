import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";

describeOnEachServer("enqueue_job", (context) => {
  it("makes a pending job with the defaults that the documents promise", async () => {
    const { sql, row } = rigOf(context.db);

    const [made] = await sql<{ id: string }[]>`select public.enqueue_job('plain') as id`;

    const job = await row(only(made).id);
    assert.deepEqual(
      {
        type: job.type,
        queue: job.queue,
        status: job.status,
        priority: job.priority,
        payload: job.payload,
        tenant: job.tenant_id,
        attempts: job.attempts,
        maxRetries: job.max_retries,
        dependsOn: job.depends_on,
        finished: job.finished_at,
      },
      {
        type: "plain",
        queue: "plain",
        status: "pending",
        priority: "normal",
        payload: {},
        tenant: null,
        attempts: 0,
        maxRetries: 3,
        dependsOn: [],
        finished: null,
      },
    );
  });

  it("keeps everything it was told", async () => {
    const { enqueue, inMs, row } = rigOf(context.db);
    const scheduledAt = await inMs(3_600_000);

    const id = await enqueue("full", {
      payload: { to: "ada", list: [1, null, "é"] },
      priority: "high",
      scheduledAt,
      tenant: "acme",
      queue: "slow-lane",
      maxRetries: 7,
      options: { timeout_ms: 5000, backoff: { base_ms: 10, cap_ms: 100, jitter: 0 } },
    });

    const job = await row(id);
    assert.deepEqual(
      [job.type, job.queue, job.priority, job.tenant_id, job.max_retries, job.status],
      ["full", "slow-lane", "high", "acme", 7, "scheduled"],
    );
    assert.deepEqual(job.payload, { to: "ada", list: [1, null, "é"] });
    assert.deepEqual(job.scheduled_at, scheduledAt);
    assert.deepEqual(job.options, {
      timeout_ms: 5000,
      backoff: { base_ms: 10, cap_ms: 100, jitter: 0 },
    });
  });

  it("takes a null for the default", async () => {
    const { row, sql } = rigOf(context.db);

    const [made] = await sql<{ id: string }[]>`
      select public.enqueue_job('nulls', null, null, null, null, null, null, null, null, null) as id`;

    const job = await row(only(made).id);
    assert.deepEqual(
      [job.payload, job.priority, job.status, job.queue, job.max_retries],
      [{}, "normal", "pending", "nulls", 3],
    );
  });

  it("takes a time in the past for at once", async () => {
    const { enqueue, inMs, status, take } = rigOf(context.db);

    const id = await enqueue("late", { scheduledAt: await inMs(-60_000) });

    assert.equal(await status(id), "pending");
    assert.equal((await take("late")).id, id);
  });

  it("uses the type's own number of retries", async () => {
    const { enqueue, row, sql } = rigOf(context.db);
    await enqueue("fragile");
    await sql`update queue.types set max_retries = 9 where name = 'fragile'`;

    const [own, given] = [await enqueue("fragile"), await enqueue("fragile", { maxRetries: 1 })];

    assert.deepEqual([(await row(own)).max_retries, (await row(given)).max_retries], [9, 1]);
  });

  it("belongs to the caller's transaction", async () => {
    const { sql } = rigOf(context.db);

    const failure = sql.begin(async (tx) => {
      await tx`select public.enqueue_job('undone', p_tenant_id => 'nobody')`;
      throw new Error("changed my mind");
    });

    await assert.rejects(failure, /changed my mind/);
    const [left] = await sql`
      select (select count(*)::int from queue.jobs j join queue.types t on t.id = j.type_id where t.name = 'undone') as jobs,
        (select count(*)::int from queue.tenants where name = 'nobody') as tenants`;
    assert.deepEqual({ ...left }, { jobs: 0, tenants: 0 });
  });

  it("can be called from a trigger", async () => {
    const { sql, take } = rigOf(context.db);
    await sql.unsafe(`
      create table public.orders (id bigint primary key);
      create function public.on_order() returns trigger language plpgsql set search_path = '' as $$
      begin
        perform public.enqueue_job('order.placed', jsonb_build_object('order', new.id));
        return new;
      end;
      $$;
      create trigger on_order after insert on public.orders for each row execute function public.on_order();`);

    await sql`insert into public.orders values (42)`;

    assert.deepEqual((await take("order.placed")).payload, { order: 42 });
    await sql.unsafe("drop table public.orders; drop function public.on_order()");
  });

  it("keeps a payload that is as large as allowed, and no byte more", async () => {
    const { sql } = rigOf(context.db);
    const limit = 4096;
    await sql`update queue.settings set max_payload_bytes = ${limit}`;
    const sized = (bytes: number) => sql`
      select public.enqueue_job('sized', to_jsonb(repeat('x', (
        select ${bytes}::int - pg_column_size(to_jsonb(repeat('x', 1000))) + 1000))))`;

    await sized(limit);
    const refused = await refusal(sized(limit + 1));

    await sql`update queue.settings set max_payload_bytes = default`;
    assert.equal(refused.code, "MR004");
    assert.match(refused.message, /4097 bytes/);
  });

  it("measures a payload unpacked, even when it comes compressed from a table", async () => {
    const { sql } = rigOf(context.db);
    await sql`create table public.big as select jsonb_build_object('a', repeat('x', 3000000)) as payload`;

    const refused = await refusal(sql`select public.enqueue_job('big', payload) from public.big`);

    await sql`drop table public.big`;
    assert.equal(refused.code, "MR004");
    assert.match(refused.message, /30000\d\d bytes/);
  });

  it("gives every job an id of its own, growing", async () => {
    const { enqueue } = rigOf(context.db);

    const ids = [await enqueue("ids"), await enqueue("ids"), await enqueue("ids")].map(BigInt);

    assert.deepEqual(
      ids,
      [...ids].sort((a, b) => Number(a - b)),
    );
    assert.equal(new Set(ids).size, 3);
  });

  it("carries ids beyond what a JavaScript number holds", async () => {
    const { bury, complete, row, sql, start } = rigOf(context.db);
    await sql.begin(async (tx) => {
      // Spans that lie far ahead, as after many years.
      await tx`update queue.partitions set begun_at = queue.clock()`;
      await tx`insert into queue.partitions (number, first_id, end_id, made_at)
        values (900, 9007199254740000, 9007199254740001, queue.clock())`;
      await tx`select queue.make_partition(901)`;
      await tx`select setval('queue.job_ids', 9007199254740993)`;
    });

    const job = await start("far", { payload: { n: 1 } });

    assert.equal(job.id, "9007199254740994");
    assert.equal(await complete(job), true);
    assert.equal((await row(job.id)).status, "completed");
    assert.equal(await bury("far"), "9007199254740995");
  });
});
