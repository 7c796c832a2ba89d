import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { z } from "zod";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, defineJob, InvalidPayloadError, type Queue } from "../../src/index.ts";
import { describeOnEachServer } from "../support/suite.ts";

const mail = defineJob("mail", {
  input: z.object({ to: z.email(), at: z.coerce.date().optional() }),
});
const plain = defineJob("plain");

describeOnEachServer("enqueue", (context) => {
  let sql: Sql;
  let queue: Queue;
  before(() => {
    sql = connect(context.db.url);
    queue = createQueue({ sql });
  });
  after(() => sql.close());

  it("makes a job durable with all that its definition and its options say; options win", async () => {
    const policy = defineJob("policy", {
      queue: "slow-lane",
      priority: "low",
      maxRetries: 9,
      backoff: { base: "2s", cap: "10s" },
    });

    const fromDefinition = await queue.get(await queue.enqueue(policy, { a: 1 }));
    const fromOptions = await queue.get(
      await queue.enqueue(
        policy,
        { a: 1 },
        {
          queue: "other-lane",
          priority: "critical",
          maxRetries: 0,
          tenantId: "acme",
          timeout: "30s",
          backoff: { jitter: 0 },
        },
      ),
    );

    const pick = (row: typeof fromOptions) => [
      row.queue,
      row.priority,
      row.max_retries,
      row.tenant_id,
      row.options,
    ];
    assert.deepEqual(pick(fromDefinition), [
      "slow-lane",
      "low",
      9,
      null,
      { backoff: { base_ms: 2_000, cap_ms: 10_000 } },
    ]);
    assert.deepEqual(pick(fromOptions), [
      "other-lane",
      "critical",
      0,
      "acme",
      { backoff: { base_ms: 2_000, cap_ms: 10_000, jitter: 0 }, timeout_ms: 30_000 },
    ]);
    assert.deepEqual(fromOptions.payload, { a: 1 });
    assert.equal(fromOptions.status, "pending");
  });

  it("stores the input as it was given; the worker parses it again", async () => {
    const job = await queue.enqueue(mail, { to: "a@b.co", at: "2027-01-01" });

    assert.deepEqual((await queue.get(job)).payload, { to: "a@b.co", at: "2027-01-01" });
  });

  it("refuses an input that does not fit, with the path, and makes no job", async () => {
    const before = (await queue.list({ type: "mail" })).length;

    await assert.rejects(queue.enqueue(mail, { to: "nobody" }), {
      code: "INVALID_PAYLOAD",
      path: "to",
    });
    await assert.rejects(queue.enqueueMany(mail, [{ to: "a@b.co" }, { to: "nobody" }]), {
      code: "INVALID_PAYLOAD",
      path: "[1].to",
    });
    await assert.rejects(queue.enqueue(plain, { text: "a\u0000b" }), {
      code: "INVALID_PAYLOAD",
      path: "text",
    });

    assert.equal((await queue.list({ type: "mail" })).length, before);
  });

  it("delays by the database's clock, and takes an absolute time as well", async () => {
    await context.db.advance(86_400_000);
    const delayed = await queue.get(await queue.enqueue(plain, {}, { delay: "10m" }));
    const dated = await queue.get(
      await queue.enqueue(plain, {}, { at: new Date("2100-01-01T00:00:00Z") }),
    );
    const [many] = await queue.enqueueMany(plain, [{}], { delay: "10m" });

    const inTenMinutes = (await context.db.now()).getTime() + 600_000;
    for (const row of [delayed, await queue.get(many ?? "0")]) {
      assert.equal(row.status, "scheduled");
      assert.ok(Math.abs(Date.parse(row.scheduled_at ?? "") - inTenMinutes) < 30_000);
    }
    assert.equal(Date.parse(dated.scheduled_at ?? ""), Date.parse("2100-01-01T00:00:00Z"));
  });

  it("refuses options that make no sense, each with its name", async () => {
    const cases: [object, string][] = [
      [{ delay: "soon" }, "delay"],
      [{ delay: "1s", at: new Date() }, "delay"],
      [{ at: new Date("nonsense") }, "at"],
      [{ priority: "urgent" }, "priority"],
      [{ maxRetries: -1 }, "maxRetries"],
      [{ dependsOn: ["not an id"] }, "dependsOn[0]"],
      [{ queue: "" }, "queue"],
      [{ tenantId: "" }, "tenantId"],
      [{ idempotencyKey: "" }, "idempotencyKey"],
    ];
    for (const [options, option] of cases) {
      await assert.rejects(queue.enqueue(plain, {}, options), { code: "INVALID_OPTION", option });
    }
  });

  it("answers with the job that is there already when the idempotency key is known", async () => {
    const first = await queue.enqueue(plain, { n: 1 }, { idempotencyKey: "order-1" });
    const second = await queue.enqueue(plain, { n: 1 }, { idempotencyKey: "order-1" });

    assert.equal(first.outcome, "created");
    assert.equal(second.outcome, "existing");
    assert.equal(second.id, first.id);
  });

  it("refuses another input under a known key, and names the job that has it", async () => {
    const first = await queue.enqueue(plain, { n: 1 }, { idempotencyKey: "order-2" });

    await assert.rejects(queue.enqueue(plain, { n: 2 }, { idempotencyKey: "order-2" }), {
      name: "IdempotencyConflictError",
      code: "IDEMPOTENCY_CONFLICT",
      jobId: first.id,
    });
    const options = { idempotencyKey: "order-2", onKeyConflict: "return" } as const;
    const same = await queue.enqueue(plain, { n: 2 }, options);
    assert.deepEqual([same.id, same.outcome], [first.id, "existing"]);
  });

  it("refuses one key for many jobs; a function gives each its own", async () => {
    await assert.rejects(queue.enqueueMany(plain, [1, 2], { idempotencyKey: "many" }), {
      code: "INVALID_OPTION",
      option: "idempotencyKey",
    });
    const jobs = await queue.enqueueMany(plain, [1, 2], (n) => ({ idempotencyKey: `many-${n}` }));
    assert.equal(new Set(jobs.map(({ id }) => id)).size, 2);
  });

  it("says how a schema that wants a Date can get one", async () => {
    const dated = defineJob("dated", {
      input: z.object({ list: z.array(z.object({ at: z.date() })) }),
    });

    await assert.rejects(
      queue.enqueue(dated, { list: [{ at: new Date(0) }] }),
      (error: unknown) => {
        assert.ok(error instanceof InvalidPayloadError);
        assert.equal(error.path, "list[0].at");
        assert.match(error.hint ?? "", /z\.coerce\.date\(\)/);
        return true;
      },
    );
  });

  it("takes times from the year 1 to 9999, and limits that it shares with defineJob", async () => {
    const far = await queue.enqueue(plain, {}, { at: new Date("9999-12-31T23:59:59.999Z") });
    assert.equal((await queue.get(far)).scheduled_at?.slice(0, 10), "9999-12-31");
    for (const at of [new Date(Number.NaN), new Date(8.64e15), new Date(-1e14)]) {
      await assert.rejects(queue.enqueue(plain, {}, { at }), {
        code: "INVALID_OPTION",
        option: "at",
      });
    }
    const limits = [
      { option: "timeout", options: { timeout: "30d" } },
      { option: "backoff.base", options: { backoff: { base: "2d" } } },
      { option: "backoff.cap", options: { backoff: { cap: "30d" } } },
    ] as const;
    for (const { option, options } of limits) {
      await assert.rejects(queue.enqueue(plain, {}, options), { code: "INVALID_OPTION", option });
      assert.throws(() => defineJob("limits", options), { code: "INVALID_OPTION", option });
    }
    await queue.enqueue(plain, {}, { timeout: 2_147_483_647, backoff: { base: "1d", cap: "24d" } });
  });

  it("makes many jobs at once, in order, each with its own options if wanted", async () => {
    const jobs = await queue.enqueueMany(plain, ["a", "b", "c"], (input, index) => ({
      priority: index === 0 ? "high" : "normal",
      tenantId: `tenant-${input}`,
    }));

    const rows = await Promise.all(jobs.map((job) => queue.get(job)));
    assert.deepEqual(
      rows.map((row) => [row.payload, row.priority, row.tenant_id]),
      [
        ["a", "high", "tenant-a"],
        ["b", "normal", "tenant-b"],
        ["c", "normal", "tenant-c"],
      ],
    );
    assert.deepEqual(await queue.enqueueMany(plain, []), []);
  });

  it("tells the ids of many jobs whether they follow on each other or not", async () => {
    const letters = ["a", "b", "c"];
    const near = await queue.enqueueMany(plain, letters);
    await context.db.superSql`alter sequence queue.job_ids increment by 7`;
    const apart = await queue.enqueueMany(plain, letters);
    await context.db.superSql`alter sequence queue.job_ids increment by 1`;

    const rows = await Promise.all([...near, ...apart].map((job) => queue.get(job)));
    assert.deepEqual(
      rows.map((row) => row.payload),
      [...letters, ...letters],
    );
  });

  it("holds a job back until the jobs it depends on are done; unknown ones are refused", async () => {
    const parent = await queue.enqueue(plain, {});
    const child = await queue.enqueue(plain, {}, { dependsOn: [parent] });

    assert.equal((await queue.get(child)).status, "blocked");
    assert.deepEqual((await queue.get(child)).depends_on, [parent.id]);
    await assert.rejects(queue.enqueue(plain, {}, { dependsOn: ["999999"] }), {
      code: "INVALID_DEPENDENCY",
    });
    await queue.cancel(parent);
    assert.equal((await queue.get(child)).status, "cancelled");
  });

  it("makes a flow in one statement: all of its jobs or none", async () => {
    const { last, first } = await queue.flow((flow) => {
      const one = flow.add(plain, 1);
      const two = flow.add(plain, 2, { after: one, priority: "high" });
      return {
        first: one,
        last: flow.add(plain, 3, { after: [one, two], onParentFailure: "run" }),
      };
    });

    assert.equal((await queue.get(first)).status, "pending");
    assert.equal((await queue.get(last)).depends_on.length, 2);
    const before = (await queue.list({ limit: 1 }))[0]?.id;
    await assert.rejects(
      queue.flow((flow) => {
        flow.add(plain, 1);
        flow.add(mail, { to: "nobody" });
      }),
      { code: "INVALID_PAYLOAD" },
    );
    assert.equal((await queue.list({ limit: 1 }))[0]?.id, before);
  });

  it("tells who reads a flow's id too early what to do instead", async () => {
    await assert.rejects(
      queue.flow((flow) => flow.add(plain, 1).id),
      { code: "FLOW_NOT_ENQUEUED" },
    );
  });
});
