/**
 * Texts and payloads that want to do harm: they come out as they went in, or are refused; never anything between.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";

const TEXTS: readonly [string, string][] = [
  ["an injection", "x');drop/**/table/**/queue.jobs;--"],
  ["quotes of every kind", `'"\`$$''""\\'`],
  ["a dollar quote", "$tag$;select/**/1;$tag$"],
  ["format's own signs", "%s%I%L%%$1{0}"],
  ["backslashes", "\\\\x\\u0000\\0"],
  ["JSON", '{"a":["b\\n"]}'],
  ["markup", "<script>alert(1)</script>"],
  ["emoji and combining signs", "👩‍👩‍👧‍👦é\u0301"],
  ["text that runs the other way", "\u202egnitaeg"],
  ["signs nobody sees", "a\u200bb\ufeffc"],
  ["the highest sign of all", "\u{10ffff}"],
  ["a word like null", "null"],
];

describeOnEachServer(
  "a hostile text",
  (context) => {
    for (const [what, text] of TEXTS) {
      it(`${what} stands for itself as type, queue, tenant, key and payload`, async () => {
        const { enqueue, row, sql, take } = rigOf(context.db);
        const payload = { [text]: text };

        const id = await enqueue(text, { queue: `q${text}`, tenant: text, key: text, payload });
        const again = await enqueue(text, { queue: `q${text}`, tenant: text, key: text, payload });
        const job = await take(text, { worker: text, tenant: text });
        const [stats] =
          await sql`select queue, processing::int from public.queue_stats(${`q${text}`})`;
        const seen = await row(id);

        assert.equal(again, id);
        assert.deepEqual(
          [job.type, job.queue, job.tenant_id, job.payload],
          [text, `q${text}`, text, payload],
        );
        assert.deepEqual(
          [seen.worker_id, { ...stats }],
          [text, { queue: `q${text}`, processing: 1 }],
        );
      });

      it(`${what} stands for itself as error, reason, message and result`, async () => {
        const { complete, fail, row, sql, start } = rigOf(context.db);
        const type = what.replaceAll(" ", "-");
        const [failing, cancelled, done] = [
          await start(type),
          await start(type),
          await start(type),
        ];

        await sql`select public.report_progress(${done.id}, 1, ${text}, ${sql.json({ [text]: text })})`;
        await complete(done, text);
        await fail(failing, text, { retryable: false });
        await sql`select public.cancel_job(${cancelled.id}, ${text})`;
        await sql`select public.retry_job(${failing.id}, ${text})`;
        await sql`select public.pause_queue(${type}, ${text})`;

        const ended = await row(done.id);
        assert.deepEqual(
          [ended.result, ended.progress_message, ended.progress_data],
          [text, text, { [text]: text }],
        );
        const [told] = await sql`
          select (select reason from queue.cancellations where job_id = ${cancelled.id}) as cancelled,
            (select string_agg(error ->> 'message', ',') from queue.runs where job_id = ${failing.id}) as error,
            (select paused_reason from queue.queues where name = ${type}) as paused,
            (select detail ->> 'reason' from queue.audit where job_id = ${failing.id}) as retried`;
        assert.deepEqual(
          { ...told },
          { cancelled: text, error: text, paused: text, retried: text },
        );
      });

      it(`${what} finds nothing as a filter, and harms nothing`, async () => {
        const { bury, sql, status } = rigOf(context.db);
        const id = await bury("filtered");

        const [row] = await sql`
          select (select count(*)::int from public.redrive_jobs(p_type => ${text})) as by_type,
            (select count(*)::int from public.redrive_jobs(p_tenant_id => ${`no ${text}`})) as by_tenant,
            public.purge_jobs(p_fingerprint => ${text}) as by_print,
            (select count(*)::int from public.get_next_job('w', array[${`no${text}`}])) as claimed,
            public.trigger_queue_worker(${text}, ${text}) as rung`;
        const unknown = await refusal(sql`select public.pause_queue(${`no ${text}`})`);

        const { rung, ...found } = only(row);
        assert.deepEqual(found, { by_type: 0, by_tenant: 0, by_print: 0, claimed: 0 });
        assert.match(rung, /^(idle|unavailable)$/);
        assert.equal(unknown.code, "MR014");
        assert.equal(await status(id), "failed");
      });
    }

    it("a text with a NUL is refused before it reaches the queue", async () => {
      const { enqueue, sql } = rigOf(context.db);

      const codes = [
        (await refusal(enqueue("a\u0000b"))).code,
        (await refusal(enqueue("has-nul", { payload: { text: "a\u0000b" } }))).code,
        (await refusal(sql`select public.enqueue_jobs(${sql.json([{ type: "a\u0000b" }])})`)).code,
      ];

      assert.deepEqual(codes, ["22021", "22P05", "22P05"]);
      assert.equal((await sql`select from queue.types where name like 'has-nul%'`).length, 0);
    });
  },
  { pooler: false },
);

describeOnEachServer(
  "the failure path",
  (context) => {
    it("takes an error of ten megabytes, cut to a sensible size", async () => {
      const { fail, row, start } = rigOf(context.db);
      const job = await start("huge");

      assert.equal(await fail(job, "é".repeat(5_000_000), { retryable: false }), "failed");

      assert.equal((await row(job.id)).last_error, "é".repeat(8192));
    });

    const errors: [string, unknown, string][] = [
      ["a text", "just text", "just text"],
      ["an empty text", "", ""],
      ["a number", 42, "42"],
      ["true", true, "true"],
      ["null", null, "unknown error"],
      ["a list", ["a", 1], '["a", 1]'],
      ["an object without a message", { code: "E1" }, "unknown error"],
      ["a message that is an object", { message: { deep: 1 } }, '{"deep": 1}'],
      ["a message that is null", { message: null }, "unknown error"],
      ["a message of a megabyte", { message: "m".repeat(1_000_000) }, "m".repeat(8192)],
      ["a stack of a megabyte", { message: "short", stack: "s".repeat(1_000_000) }, "short"],
      ["a name of a megabyte", { message: "short", name: "n".repeat(1_000_000) }, "short"],
      [
        "ten thousand fields",
        Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`f${n}`, n])),
        "unknown error",
      ],
    ];
    for (const [what, error, message] of errors) {
      it(`takes ${what} for an error`, async () => {
        const { row, settle, sql, start } = rigOf(context.db);
        const job = await start("odd");

        const status = await settle(job, {
          outcome: "failed",
          detail: { error, retryable: false },
        });

        assert.equal(status, "failed");
        assert.equal((await row(job.id)).last_error, message);
        const [size] =
          await sql`select pg_column_size(error) as bytes from queue.runs where job_id = ${job.id}`;
        assert.ok(size?.["bytes"] < 40_000);
      });
    }

    it("takes details of the wrong kind where they do no harm", async () => {
      const { settle, start } = rigOf(context.db);
      const job = await start("details", { maxRetries: 0 });

      const status = await settle(job, {
        outcome: "failed",
        detail: { lease: 1, id: 2, outcome: "completed", extra: { a: 1 }, reason: ["r"] },
      });

      assert.equal(status, "failed", "what is named in the call counts");
    });

    const broken: [string, Record<string, unknown>][] = [
      ["a delay that is a text", { delay_ms: "soon" }],
      ["a flag that is a word", { retryable: "perhaps" }],
      ["an elapsed time that is a list", { elapsed_ms: [1] }],
    ];
    for (const [what, detail] of broken) {
      it(`refuses ${what}, and the job stays with its worker`, async () => {
        const { fail, settle, start, status } = rigOf(context.db);
        const job = await start("broken");

        const refused = await refusal(settle(job, { outcome: "failed", detail }));

        assert.match(refused.code, /^22/);
        assert.equal(await status(job.id), "processing");
        assert.equal(await fail(job), "scheduled");
      });
    }

    it("a payload a hundred thousand levels deep is refused, and nothing is left of it", async () => {
      const { sql } = context.db;
      const deep = "[".repeat(100_000) + "]".repeat(100_000);

      const refused = await refusal(sql`select public.enqueue_job('deep', ${deep}::text::jsonb)`);

      assert.equal(refused.code, "54001");
      assert.equal((await sql`select from queue.types where name = 'deep'`).length, 0);
    });

    it("a payload a thousand levels deep comes out as it went in", async () => {
      const { take, sql } = rigOf(context.db);
      const deep = "[".repeat(1000) + "]".repeat(1000);

      await sql`select public.enqueue_job('nested', ${deep}::text::jsonb)`;

      assert.equal(JSON.stringify((await take("nested")).payload), deep);
    });

    it("numbers beyond JavaScript's stay exact in the payload", async () => {
      const { sql, take } = rigOf(context.db);
      await sql`select public.enqueue_job('numbers', '{"n": 123456789012345678901234567890.5}')`;
      const { id } = await take("numbers");

      const [row] = await sql`select payload ->> 'n' as n from public.job_queue where id = ${id}`;

      assert.equal(row?.["n"], "123456789012345678901234567890.5");
    });
  },
  { pooler: false },
);
