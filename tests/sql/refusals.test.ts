/**
 * Bad arguments of every kind: each has its own SQLSTATE with a detail and a hint, and leaves nothing behind.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type NewJob, only, refusal, rigOf } from "./rig.ts";

interface Refused {
  readonly what: string;
  readonly type?: string | null;
  readonly job?: NewJob;
  readonly code: string;
}

const bad = (what: string, code: string, job: NewJob): Refused => ({ what, code, job });
const badType = (what: string, type: string | null): Refused => ({ what, type, code: "MR001" });
const badOptions = (what: string, options: unknown): Refused => bad(what, "MR010", { options });

const REFUSED: readonly Refused[] = [
  badType("no type", null),
  badType("an empty type", ""),
  badType("a type with a space", "send mail"),
  badType("a type with a line break", "mail\n"),
  badType("a type with a tab", "\tmail"),
  badType("a type with a control character", "mail\u0007"),
  badType("a type of 201 characters", "é".repeat(201)),
  badType("a type of a million characters", "x".repeat(1_000_000)),
  bad("an unknown priority", "MR002", { priority: "urgent" }),
  bad("a priority in capitals", "MR002", { priority: "High" }),
  bad("an empty priority", "MR002", { priority: "" }),
  bad("a priority by number", "MR002", { priority: "0" }),
  bad("a payload of two million bytes", "MR004", { payload: "x".repeat(2_000_000) }),
  bad("a negative number of retries", "MR006", { maxRetries: -1 }),
  bad("too many retries", "MR006", { maxRetries: 10_001 }),
  bad("an unknown parent", "MR007", { dependsOn: ["987654321"] }),
  bad("a negative parent", "MR007", { dependsOn: ["-1"] }),
  bad("an empty key", "MR009", { key: "" }),
  bad("a key of 256 characters", "MR009", { key: "k".repeat(256) }),
  bad("an empty queue", "MR011", { queue: "" }),
  bad("a queue with a space", "MR011", { queue: "my queue" }),
  bad("a queue of 201 characters", "MR011", { queue: "q".repeat(201) }),
  bad("an empty tenant", "MR012", { tenant: "" }),
  bad("a tenant with a line break", "MR012", { tenant: "a\nb" }),
  bad("a tenant of 201 characters", "MR012", { tenant: "t".repeat(201) }),
  badOptions("options that are a list", []),
  badOptions("options that are a text", "fast"),
  badOptions("options that are a number", 7),
  badOptions("an unknown option", { timeout: 5 }),
  badOptions("an option with a hostile name", { "'; drop table queue.jobs; --": 1 }),
  badOptions("a timeout of nothing", { timeout_ms: 0 }),
  badOptions("a negative timeout", { timeout_ms: -1 }),
  badOptions("a timeout with a fraction", { timeout_ms: 1.5 }),
  badOptions("a timeout as a text", { timeout_ms: "1000" }),
  badOptions("a timeout beyond an integer", { timeout_ms: 2 ** 31 }),
  badOptions("a null for a timeout", { timeout_ms: null }),
  badOptions("an unknown way on a parent's failure", { on_parent_failure: "explode" }),
  badOptions("a number on a parent's failure", { on_parent_failure: 1 }),
  badOptions("a null on a parent's failure", { on_parent_failure: null }),
  badOptions("a backoff that is a number", { backoff: 5 }),
  badOptions("a backoff that is a list", { backoff: [1000] }),
  badOptions("a null for a backoff", { backoff: null }),
  badOptions("an unknown part of a backoff", { backoff: { factor: 2 } }),
  badOptions("a negative base", { backoff: { base_ms: -1 } }),
  badOptions("a base of more than a day", { backoff: { base_ms: 86_400_001 } }),
  badOptions("a base as a text", { backoff: { base_ms: "1000" } }),
  badOptions("a cap beyond an integer", { backoff: { cap_ms: 2 ** 31 } }),
  badOptions("a cap with a fraction", { backoff: { cap_ms: 0.5 } }),
  badOptions("a jitter above one", { backoff: { jitter: 1.01 } }),
  badOptions("a negative jitter", { backoff: { jitter: -0.1 } }),
  badOptions("a jitter that is true", { backoff: { jitter: true } }),
];

describeOnEachServer(
  "a bad argument",
  (context) => {
    /** How much there is of everything that an enqueue could leave behind. */
    async function counts(): Promise<unknown> {
      const [row] = await context.db.sql`
        select (select count(*) from queue.jobs) as jobs, (select count(*) from queue.ready) as ready,
          (select count(*) from queue.scheduled) as scheduled, (select count(*) from queue.waiting) as waiting,
          (select count(*) from queue.dependencies) as edges, (select count(*) from queue.types) as types,
          (select count(*) from queue.queues) as queues, (select count(*) from queue.tenants) as tenants,
          (select count(*) from queue.idempotency_keys) as keys, (select count(*) from queue.type_queues) as pairs`;
      return { ...only(row) };
    }

    for (const { what, type, job, code } of REFUSED) {
      it(`${what} is refused with ${code}`, async () => {
        const { enqueue } = rigOf(context.db);
        const before = await counts();
        const name = type === undefined ? "fine" : type;
        const facts = { tenant: "someone", key: "k", queue: "some-queue", ...job };

        const refused = await refusal(enqueue(name as string, facts));

        assert.equal(refused.code, code, refused.message);
        assert.ok(refused.detail && refused.hint, "it says why and how to mend it");
        assert.ok(refused.message.length < 400, "it does not repeat what was huge");
        assert.deepEqual(await counts(), before);
      });
    }

    it("a time at infinity is refused with MR005, at either end", async () => {
      const { sql } = context.db;
      const before = await counts();

      for (const time of ["infinity", "-infinity"]) {
        const one = await refusal(
          sql`select public.enqueue_job('x', p_scheduled_at => ${time}::text::timestamptz)`,
        );
        const many = await refusal(
          sql`select public.enqueue_jobs(${sql.json([{ type: "x", scheduled_at: time }])})`,
        );
        assert.deepEqual([one.code, many.code], ["MR005", "MR005"]);
        assert.ok(one.detail && one.hint);
      }

      assert.deepEqual(await counts(), before);
    });

    it("in the thousandth of many jobs is refused like in one, and none is made", async () => {
      const { sql } = context.db;
      const before = await counts();
      const jobs = (last: object) => [
        ...Array.from({ length: 999 }, (_, n) => ({ type: "good", tenant_id: `t${n % 7}` })),
        { type: "good", ...last },
      ];
      const faults: [string, object][] = [
        ["MR001", { type: "" }],
        ["MR001", { type: null }],
        ["MR002", { priority: "urgent" }],
        ["MR004", { payload: "x".repeat(2_000_000) }],
        ["MR006", { max_retries: -1 }],
        ["MR007", { depends_on: [987_654_321] }],
        ["MR008", { depends_on_refs: ["ghost"] }],
        ["MR009", { idempotency_key: "" }],
        ["MR010", { options: { backoff: { base_ms: -1 } } }],
        ["MR011", { queue: "a b" }],
        ["MR012", { tenant_id: "" }],
        ["MR015", { unknown: 1 }],
      ];

      for (const [code, fault] of faults) {
        const refused = await refusal(
          sql`select public.enqueue_jobs(${sql.json(jobs(fault) as never)})`,
        );
        assert.equal(refused.code, code, refused.message);
        assert.match(refused.message, /element 1000\b/);
        assert.ok(refused.detail && refused.hint);
      }
      for (const fault of [
        { scheduled_at: "soon" },
        { max_retries: "many" },
        { depends_on: ["x"] },
      ]) {
        const refused = await refusal(
          sql`select public.enqueue_jobs(${sql.json(jobs(fault) as never)})`,
        );
        assert.deepEqual([refused.code, /element 1000: /.test(refused.message)], ["MR015", true]);
      }

      assert.deepEqual(await counts(), before);
    });

    it("retries beyond a smallint are refused as any others, for a type that is known too", async () => {
      const { sql } = context.db;
      await rigOf(context.db).enqueue("small");
      for (const retries of [32_767, 32_768, 99_999, 2_147_483_647]) {
        const refused = [
          await refusal(sql`select public.enqueue_job('small', p_max_retries => ${retries})`),
          await refusal(
            sql`select public.enqueue_jobs(${sql.json([{ type: "small", max_retries: retries }])})`,
          ),
          await refusal(
            sql`select queue.enqueue_alike('small', '[{}]', p_max_retries => ${retries})`,
          ),
        ];
        assert.deepEqual(
          refused.map(({ code }) => code),
          ["MR006", "MR006", "MR006"],
        );
      }
    });

    it("a parent that is null is named", async () => {
      const refused = await refusal(
        context.db.sql`select public.enqueue_job('x', p_depends_on => array[null]::bigint[])`,
      );

      assert.deepEqual([refused.code, refused.message], ["MR007", "unknown parent job: null"]);
    });

    it("an attempt can't end by a word of the machine", async () => {
      const { settle, start, status } = rigOf(context.db);
      const job = await start("words");

      for (const outcome of ["lost", "redriven", "expedited", "bogus", ""]) {
        const refused = await refusal(settle(job, { outcome }));
        assert.equal(refused.code, "22023");
        assert.ok(refused.hint);
      }

      assert.equal(await status(job.id), "processing");
    });
  },
  { pooler: false },
);
