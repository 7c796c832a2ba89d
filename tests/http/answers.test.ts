/** What a 2xx answer of a function becomes: the work is done, whatever was said of it. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { defineJob } from "../../src/http/index.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { reply } from "./function-server.ts";
import { workerRig } from "./worker-rig.ts";

const MIB = 1024 * 1024;
const CUT = "… (cut: the answer is longer than 1 MiB)";
const TOO_LONG = "the answer is longer than 1 MiB: its beginning was kept";
const NO_JSON = "the answer says that it is JSON, and is not";

interface Case {
  readonly what: string;
  readonly type?: string;
  readonly body?: string | Buffer;
  readonly result: unknown;
  readonly note?: string;
}

const CASES: readonly Case[] = [
  { what: "nothing", result: null },
  { what: "white space", body: " \n", type: "application/json", result: null },
  { what: "JSON", body: '{"n": 1}', type: "application/json; charset=utf-8", result: { n: 1 } },
  { what: "JSON of another kind", body: "[1]", type: "application/problem+json", result: [1] },
  { what: "a JSON text", body: '"done"', type: "application/json", result: "done" },
  { what: "JSON without a type", body: '{"n": 1}', result: { n: 1 } },
  // What `new Response(JSON.stringify(…))` says of itself.
  {
    what: "JSON as text/plain",
    body: '{"n": 1}',
    type: "text/plain;charset=UTF-8",
    result: { n: 1 },
  },
  { what: "OK", body: "OK", type: "text/plain;charset=UTF-8", result: "OK" },
  { what: "a number as text", body: "42", type: "text/plain", result: "42" },
  { what: "a text without a type", body: "done", result: "done" },
  { what: "a text in brackets", body: "[done]", type: "text/plain", result: "[done]" },
  { what: "HTML", body: "<p>ok</p>", type: "text/html", result: "<p>ok</p>" },
  { what: "JSON as HTML", body: '{"n": 1}', type: "text/html", result: '{"n": 1}' },
  {
    what: "broken JSON",
    body: '{"n": ',
    type: "application/json",
    result: '{"n": ',
    note: NO_JSON,
  },
  {
    what: "bytes",
    body: Buffer.from([0x89, 0x50, 0x00, 0xff, 0x4e]),
    type: "image/png",
    result: "\uFFFDP\uFFFD\uFFFDN",
  },
  {
    what: "text of another encoding",
    body: Buffer.from("Grüße", "latin1"),
    type: "text/plain; charset=iso-8859-1",
    result: "Grüße",
  },
  {
    what: "text of an encoding that nobody knows",
    body: "ok",
    type: "text/plain; charset=klingon",
    result: "ok",
  },
  { what: "JSON with NUL", body: '{"n": "a\\u0000b"}', result: { n: "a\uFFFDb" } },
  {
    what: "JSON that is nested very deeply",
    body: "[".repeat(20_000) + "]".repeat(20_000),
    type: "application/json",
    result: "[".repeat(20_000) + "]".repeat(20_000),
    note: "the answer is nested too deeply",
  },
  {
    what: "too long a text",
    body: "x".repeat(2 * MIB),
    result: "x".repeat(MIB - CUT.length - 2) + CUT,
    note: TOO_LONG,
  },
  {
    what: "too long a JSON",
    body: `"${"x".repeat(2 * MIB)}"`,
    type: "application/json",
    result: `"${"x".repeat(MIB - CUT.length - 4)}${CUT}`,
    note: TOO_LONG,
  },
];

describeWithDatabase("a function that answers 200 with", (context) => {
  const rig = workerRig(context);

  for (const { what, type, body, result, note } of CASES) {
    it(`${what} has completed its job`, async () => {
      rig.functions.answer((_call, response) => {
        response.writeHead(200, type === undefined ? {} : { "content-type": type }).end(body);
      });
      const job = await rig.queue.enqueue(defineJob("ingest_slack"), {});

      const report = await rig.run(rig.workerOf());

      assert.deepEqual([report.completed, report.failed], [1, 0]);
      assert.deepEqual(await job.result(), result);
      const [run] = await context.db.superSql`select note from queue.runs where job_id = ${job.id}`;
      assert.equal(run?.["note"]?.answer, note);
      assert.equal(run?.["note"]?.status, 200);
    });
  }

  it("more than 1 MiB of what JSON writes as escapes has completed its job, and fits", async () => {
    rig.functions.answer((_call, response) => response.end("\u0001".repeat(MIB)));
    const job = await rig.queue.enqueue(defineJob("ingest_slack"), {});

    await rig.run(rig.workerOf());

    const result = String(await job.result());
    assert.ok(result.endsWith(CUT) && result.startsWith("\u0001\u0001"));
    const length = JSON.stringify(result).length;
    assert.ok(length <= MIB && length > MIB - 10, String(length));
  });

  it("a word for a batch has not said what became of each job: all fail, once", async () => {
    await context.db.sql`
      select public.set_job_route('in_batches', p_function => 'ingest-slack', p_batch => 10)`;
    rig.functions.answer((_call, response) => response.end("OK"));
    const batch = defineJob("in_batches");
    const jobs = await rig.queue.enqueueMany(batch, [1, 2]);

    const report = await rig.run(rig.workerOf());

    assert.deepEqual([report.completed, report.failed], [0, 2]);
    for (const job of jobs) {
      await assert.rejects(job.result(), {
        message: /something else than an array of 2, so it is not told what became of each job/,
      });
    }
    rig.functions.answer((_call, response) => reply(response, 200, [{}, {}]));
  });
});
