import assert from "node:assert/strict";
import { it } from "node:test";
import { defineJob, implement, implementBatch } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { withWorker } from "./rig.ts";

/** A payload that JavaScript would change, and the place that is named. */
const INEXACT: readonly [payload: string, path: string][] = [
  ['{"id": 9007199254740993}', "id"],
  ['{"rows": [{"n": 1}, {"n": 1e400}]}', "rows[1].n"],
  ["-9223372036854775807", ""],
];

describeOnEachServer("a payload with numbers that JavaScript can't hold", (context) => {
  for (const batch of [false, true]) {
    it(`fails its own job only, at once, ${batch ? "in batches" : "one by one"}`, async () => {
      const job = defineJob<unknown>(`exact.${batch}`);
      const seen: unknown[] = [];
      const handler = batch
        ? implementBatch(
            job,
            ({ jobs }) => {
              for (const { input } of jobs) seen.push(input);
              return undefined;
            },
            { maxSize: 3 },
          )
        : implement(job, ({ input }) => void seen.push(input));
      await withWorker(context.db, [handler], async ({ queue, seen: events }) => {
        const enqueue = async (payload: string): Promise<string> => {
          const [row] = await context.db.sql<{ id: string }[]>`
            select public.enqueue_job(${job.type}, ${payload}::text::jsonb)::text as id`;
          return row?.id ?? "";
        };
        const wrong: [string, string][] = [];
        // The first come alone, and may be brought; the others together.
        for (const [payload, path] of INEXACT) {
          wrong.push([await enqueue(payload), path]);
          await events("failed", wrong.length);
        }
        const rows = await context.db.sql<{ id: string }[]>`
          select id::text from public.enqueue_jobs((
            select jsonb_agg(jsonb_build_object('type', ${job.type}::text, 'payload',
              case when n % 5 = 0 then jsonb_build_object('n', 9007199254740993 + 2 * n) else to_jsonb(9007199254740000 + n) end)
              order by n)
            from generate_series(1, 50) as n)) order by ordinal`;
        await eventually(() => seen.length === 40);
        await events("failed", INEXACT.length + 10);
        wrong.push(
          ...rows
            .filter((_, at) => (at + 1) % 5 === 0)
            .map(({ id }): [string, string] => [id, "n"]),
        );
        assert.deepEqual(
          seen.map(Number).toSorted((a, b) => a - b),
          Array.from({ length: 50 }, (_, at) => at + 1)
            .filter((n) => n % 5 !== 0)
            .map((n) => 9007199254740000 + n),
        );
        for (const [id, path] of wrong) {
          const row = await queue.get(id);
          assert.deepEqual([row.status, row.attempts], ["failed", 1]);
          assert.match(
            row.last_error ?? "",
            path === "" ? /^Payload is invalid: the number/ : /would be changed/,
          );
          assert.ok(
            row.last_error?.includes(path === "" ? "number" : `at ${path}:`),
            row.last_error ?? "",
          );
        }
      });
    });
  }

  it("and those that a program in JavaScript sent come back as they were, as payload and as result", async () => {
    const job = defineJob<number, number>("exact.echo", { maxRetries: 0 });
    const numbers = [
      ...[1e23, 1.5e300, Number.MAX_VALUE, -(2 ** 63), 123456789012345680000, 2 ** 53 + 2],
      ...[5e-324, 0.1 + 0.2, 1 / 3],
    ];
    await withWorker(context.db, [implement(job, ({ input }) => input)], async ({ queue }) => {
      const jobs = await queue.enqueueMany(job, numbers);
      for (const number of numbers) jobs.push(await queue.enqueue(job, number));
      const results = await Promise.all(jobs.map((one) => one.result()));
      assert.deepEqual(results, [...numbers, ...numbers]);
    });
  });

  it("and a result of that kind is not rounded for who waits for it", async () => {
    const [row] = await context.db.sql<
      { id: string }[]
    >`select public.enqueue_job('exact.result')::text as id`;
    const job = defineJob("exact.none");
    await withWorker(context.db, [implement(job, () => undefined)], async ({ queue }) => {
      await context.db.sql`
        select public.complete_job(id, '{"sum": 9007199254740993}', lease_id) from public.get_next_job('w', '{exact.result}')`;

      await assert.rejects(queue.result(row?.id ?? ""), {
        code: "INVALID_RESULT",
        path: "result.sum",
      });
    });
  });
});
