import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";

interface Shared {
  readonly priority?: string;
  /** As text. */
  readonly scheduledAt?: string;
  readonly tenant?: string;
  readonly queue?: string;
  readonly maxRetries?: number;
  readonly options?: unknown;
}

describeOnEachServer("enqueue_alike", (context) => {
  before(() => rigOf(context.db).enqueue("warm"));
  beforeEach(() => rigOf(context.db).clear());

  async function enqueue(type: string | null, payloads: unknown, shared: Shared = {}) {
    const [row] = await context.db.sql<{ ids: string[] }[]>`
      select queue.enqueue_alike(${type}, ${JSON.stringify(payloads)}::text::jsonb,
        p_priority => ${shared.priority ?? "normal"}, p_scheduled_at => ${shared.scheduledAt ?? null}::text::timestamptz,
        p_tenant_id => ${shared.tenant ?? null}, p_queue => ${shared.queue ?? null},
        p_max_retries => ${shared.maxRetries ?? null},
        p_options => ${shared.options === undefined ? null : JSON.stringify(shared.options)}::text::jsonb) as ids`;
    return only(row).ids;
  }

  it("makes a job of each payload, in their order, with all that they share", async () => {
    const { row } = rigOf(context.db);
    const payloads = [{ n: 1 }, "two", null, [4], 1e21];

    const ids = await enqueue("all", payloads, {
      priority: "high",
      tenant: "acme",
      queue: "own",
      maxRetries: 7,
      options: { timeout_ms: 9 },
    });

    const rows = await Promise.all(ids.map((id) => row(id)));
    assert.deepEqual(
      rows.map(({ payload }) => payload),
      payloads,
    );
    for (const job of rows) {
      assert.deepEqual(
        [job.type, job.queue, job.priority, job.tenant_id, job.max_retries, job.status],
        ["all", "own", "high", "acme", 7, "pending"],
      );
    }
    assert.deepEqual(
      ids,
      ids.toSorted((a, b) => Number(a) - Number(b)),
      "ids grow",
    );
  });

  it("makes jobs that are claimed like any others", async () => {
    const { claim } = rigOf(context.db);
    const ids = await enqueue("run", [{ n: 1 }, { n: 2 }], { tenant: "acme" });

    const jobs = await claim("run", { batch: 5 });

    assert.deepEqual(
      jobs.map(({ id, payload, tenant_id, max_retries }) => [id, payload, tenant_id, max_retries]),
      ids.map((id, at) => [id, { n: at + 1 }, "acme", 3]),
    );
  });

  it("schedules jobs of the future, and not those of the past", async () => {
    const { inMs, status } = rigOf(context.db);

    const later = await enqueue("time", [{}, {}], {
      scheduledAt: (await inMs(60_000)).toISOString(),
    });
    const past = await enqueue("time", [{}], { scheduledAt: (await inMs(-60_000)).toISOString() });

    assert.deepEqual(await Promise.all([...later, ...past].map(status)), [
      "scheduled",
      "scheduled",
      "pending",
    ]);
  });

  it("puts the jobs of a first-in-first-out queue into its one lane", async () => {
    const { enqueue: one, sql } = rigOf(context.db);
    await one("line");
    await sql`update queue.queues set is_fifo = true where name = 'line'`;
    const [id] = await enqueue("line", [{}], { tenant: "acme" });

    const [token] = await sql<
      { lane: number }[]
    >`select lane from queue.ready where id = ${only(id)}`;

    assert.equal(token?.lane, 0);
  });

  it("wakes a worker that sleeps on the queue", async () => {
    const { sql } = context.db;
    await enqueue("bell", [{}]);
    await sql`
      select queue.arm_bells((queue.register_worker('sleeper', null, array['bell'], array['bell']) ->> 'worker')::integer,
        array(select id from queue.queues where name = 'bell'), array(select id from queue.types where name = 'bell'))`;

    await enqueue("bell", [{}, {}]);

    assert.equal((await sql`select from queue.bells`).length, 0);
  });

  it("makes nothing of no payloads", async () => {
    assert.deepEqual(await enqueue("none", []), []);
  });

  const BAD: readonly [
    what: string,
    code: string,
    type: string | null,
    payloads: unknown,
    Shared,
  ][] = [
    ["what is no array", "MR015", "bad", { n: 1 }, {}],
    ["more than 100000", "MR015", "bad", Array(100_001).fill(0), {}],
    ["a payload beyond the limit", "MR004", "bad", ["ok", "x".repeat(1_100_000)], {}],
    ["an unknown priority", "MR002", "bad", [1], { priority: "urgent" }],
    ["a time without end", "MR005", "bad", [1], { scheduledAt: "infinity" }],
    ["too many retries", "MR006", "bad", [1], { maxRetries: 10_001 }],
    ["unknown options", "MR010", "bad", [1], { options: { colour: "red" } }],
    ["no type", "MR001", null, [1], {}],
  ];
  for (const [what, code, type, payloads, shared] of BAD) {
    it(`refuses ${what}, and makes nothing`, async () => {
      const refused = await refusal(enqueue(type, payloads, shared));

      assert.equal(refused.code, code);
      assert.equal((await context.db.sql`select from queue.ready`).length, 0);
    });
  }

  it("refuses a payload beyond the limit of a type that is known as well", async () => {
    await enqueue("known", [1]);

    const refused = await refusal(enqueue("known", ["ok", "x".repeat(1_100_000)]));

    assert.equal(refused.code, "MR004");
    assert.equal((await context.db.sql`select from queue.ready`).length, 1);
  });

  it("takes payloads that are within the limit each, however large they are together", async () => {
    const ids = await enqueue("known", Array(3).fill("x".repeat(500_000)));

    assert.equal(ids.length, 3);
  });

  it("holds end users to their tenant, to public types, and to the type's own queue", async () => {
    const { sql } = context.db;
    await enqueue("open", [{}]);
    await enqueue("closed", [{}]);
    await sql`update queue.types set is_public = true where name = 'open'`;
    const ann = context.db.connectAs("authenticated", { app_metadata: { tenant_id: "acme" } });
    const ask = (type: string, tenant: string | null, queue: string | null) =>
      ann`select queue.enqueue_alike(${type}, '[1, 2]', p_tenant_id => ${tenant}, p_queue => ${queue}) as ids`;

    const [made] = await ask("open", null, null);
    const refused = [
      await refusal(ask("open", "bolt", null)),
      await refusal(ask("closed", null, null)),
      await refusal(ask("open", null, "other")),
    ];

    const [row] = await sql<{ tenants: string[] }[]>`
      select array_agg(distinct tenant_id) as tenants from public.job_queue where id = any (${made?.["ids"]})`;
    assert.deepEqual(row?.tenants, ["acme"]);
    assert.deepEqual(
      refused.map(({ code }) => code),
      ["42501", "42501", "42501"],
    );
  });
});
