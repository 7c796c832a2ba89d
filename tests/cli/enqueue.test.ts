import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { describeWithDatabase } from "../support/suite.ts";
import { APP, type CliRun, type CliWorld, cli } from "./run.ts";

describeWithDatabase("millrace enqueue", (context) => {
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "millrace-enqueue-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const enqueue = (argv: readonly string[], world: CliWorld = {}): Promise<CliRun> =>
    cli(["enqueue", ...argv], { env: { DATABASE_URL: context.db.url }, cwd: folder, ...world });

  const file = async (name: string, lines: readonly unknown[]): Promise<string> => {
    const text = lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line)));
    await writeFile(join(folder, name), `${text.join("\n")}\n`);
    return name;
  };

  it("makes a job with everything that can be said of one", async () => {
    const parent = (await enqueue(["full.parent", "--json"])).json<{ id: string }>().id;

    const run = await enqueue([
      "full.job",
      '{"to":"ada"}',
      ..."--priority high --tenant acme --queue mail --max-retries 7 --key k1".split(" "),
      ..."--at 2030-01-02T03:04:05Z --json".split(" "),
      "--depends-on",
      parent,
    ]);

    const { id, outcome, type } = run.json<{ id: string; outcome: string; type: string }>();
    assert.deepEqual([run.code, outcome, type], [0, "created", "full.job"]);
    const [job] = await context.db.sql`
      select type, payload, priority, tenant_id, queue, max_retries, status, depends_on::text[]
      from public.job_queue where id = ${id}`;
    assert.deepEqual(job, {
      type: "full.job",
      payload: { to: "ada" },
      priority: "high",
      tenant_id: "acme",
      queue: "mail",
      max_retries: 7,
      status: "blocked",
      depends_on: [parent],
    });
  });

  it("says which id it got, when it is due, and that nobody will run it", async () => {
    const run = await enqueue(["lonely.job", "{}", "--in", "1h"]);

    assert.match(run.out, /^✓ Job \d+ enqueued: lonely.job, due \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n$/);
    assert.match(run.err, /No live worker for its type lonely.job/);
  });

  it("a second job with the same key is the first one", async () => {
    const first = await enqueue(["once.job", "{}", "--key", "order-7", "--json"]);
    const second = await enqueue(["once.job", "{}", "--key", "order-7", "--json"]);

    assert.deepEqual(
      [second.json()["id"], second.json()["outcome"]],
      [first.json()["id"], "existing"],
    );
  });

  it("with --app a payload is checked against its schema, and the policy is the definition's", async () => {
    const wrong = await enqueue(["test.strict", '{"from":"ada"}', "--app", APP]);
    const unknown = await enqueue(["test.unknown", "{}", "--app", APP]);
    const right = await enqueue(["test.strict", '{"to":"ada"}', "--app", APP, "--json"]);

    assert.deepEqual([wrong.code, wrong.out], [2, ""]);
    assert.match(wrong.err, /Payload is invalid at to: must be there/);
    assert.equal(unknown.code, 2);
    assert.match(
      unknown.err,
      /handles no jobs of type test.unknown\n {2}fix {2}It handles test.echo/,
    );
    const [job] = await context.db.sql`
      select queue, max_retries from public.job_queue where id = ${String(right.json()["id"])}`;
    assert.deepEqual(job, { queue: "strict-queue", max_retries: 7 });
  });

  it("a time or a payload that would be changed is refused, with its place", async () => {
    const refused: [string[], RegExp][] = [
      [["odd.cli", "--at", "2030-02-30T00:00:00Z"], /2030-02-30.*must be a time/],
      [["odd.cli", "--at", "2030-02-29"], /2030-02-29.*must be a time/],
      [["odd.cli", "--at", "0000-01-01"], /must be a time/],
      [
        ["odd.cli", '{"to":{"name":"\\ud800"}}'],
        /The payload can't be kept at to.name: .*surrogate/,
      ],
      [["odd.cli", '["\\u0000"]'], /The payload can't be kept at \[0\]: .*NUL/],
    ];
    for (const [argv, message] of refused) {
      const run = await enqueue(argv);
      assert.deepEqual([run.code, run.out], [2, ""], argv.join(" "));
      assert.match(run.err, message);
    }
    for (const [payload, message] of [
      ['{"n":9007199254740993}', /Line 2 holds the number 9007199254740993/],
      ['{"n":1e400}', /Line 2 can't be kept at n: Infinity/],
      ['{"n":"\\udfff"}', /Line 2 can't be kept at n/],
    ] as const) {
      const lines = [{ type: "odd.cli" }, `{"type":"odd.cli","payload":${payload}}`];
      const run = await enqueue(["--file", await file("odd.ndjson", lines)]);
      assert.equal(run.code, 2, payload);
      assert.match(run.err, message);
    }
    const kept = await enqueue([
      "odd.cli",
      '{"n":9007199254740993}',
      "--at",
      "2032-02-29",
      "--json",
    ]);
    assert.equal(kept.code, 0, kept.err);
    const jobs = await context.db.sql`
      select payload::text, scheduled_at::text from public.job_queue where type = 'odd.cli'`;
    assert.deepEqual(
      [...jobs],
      [{ payload: '{"n": 9007199254740993}', scheduled_at: jobs[0]?.["scheduled_at"] }],
    );
    assert.match(String(jobs[0]?.["scheduled_at"]), /^2032-02-29/);
  });

  it("what the queue itself refuses is a message too", async () => {
    const run = await enqueue(["white space", "{}"]);

    assert.equal(run.code, 2);
    assert.match(run.err, /invalid job type[\s\S]*why[\s\S]*fix/);
  });

  it("--wait prints the result, or fails with what the job failed with", async () => {
    const stop = new AbortController();
    const worker = cli(["work", APP], {
      env: { DATABASE_URL: context.db.url },
      stop: stop.signal,
    });

    const text = await enqueue(["test.echo", '{"a":[1]}', "--wait"]);
    const json = await enqueue(["test.flaky", "null", "--wait", "10s", "--json", "--app", APP]);
    const failed = await enqueue(["test.doomed", "{}", "--wait", "--json", "--max-retries", "0"]);
    const late = await enqueue(["nobody.runs", "{}", "--wait", "50ms"]);

    assert.equal(text.out, '{"a":[1]}\n');
    assert.match(text.err, /waiting for its result/);
    assert.deepEqual([json.json()["status"], json.json()["result"]], ["completed", "at last"]);
    assert.deepEqual([failed.code, failed.json()["status"]], [1, "failed"]);
    assert.match(failed.err, /it can't be done/);
    assert.equal(late.code, 1);
    assert.match(late.err, /did not end within 50 ms/);
    stop.abort();
    assert.equal((await worker).code, 0);
  });

  it("--file with a type makes a job of each payload", async () => {
    const name = await file("payloads.ndjson", ['{"n":12345678901234567890}', "", { n: 2 }]);

    const run = await enqueue(["file.mail", "--file", name, "--tenant", "acme"]);

    assert.match(run.out, /^✓ 2 jobs enqueued in .* \(ids \d+ to \d+\)\n$/);
    const jobs = await context.db.sql`
      select payload::text, tenant_id from public.job_queue where type = 'file.mail' order by id`;
    assert.deepEqual(
      jobs.map((job) => [job["payload"], job["tenant_id"]]),
      [
        ['{"n": 12345678901234567890}', "acme"],
        ['{"n": 2}', "acme"],
      ],
    );
  });

  it("--file without a type makes whole jobs, as enqueue_jobs takes them", async () => {
    const name = await file("jobs.ndjson", [
      { type: "whole.a", payload: { x: 1 }, priority: "low", idempotency_key: "w1" },
      { type: "whole.b", scheduled_at: "2030-01-01T00:00:00Z" },
    ]);

    const run = await enqueue(["--file", name, "--json"]);
    const again = await enqueue(["--file", name, "--json"]);

    const { created, existing, first_id, last_id } = run.json();
    assert.deepEqual([created, existing], [2, 0]);
    assert.equal(BigInt(String(last_id)) - BigInt(String(first_id)), 1n);
    assert.deepEqual([again.json()["created"], again.json()["existing"]], [1, 1]);
  });

  it("a bad line tells its number, how far it came, and where to go on", async () => {
    const lines = Array.from({ length: 1_200 }, (_, n) => ({ n }));
    const name = await file("bad.ndjson", [...lines, "{oops", { n: 9 }]);

    const run = await enqueue(["bad.line", "--file", name]);

    assert.deepEqual([run.code, run.out], [2, ""]);
    assert.match(run.err, /^✗ Line 1,201 is not JSON/);
    assert.match(run.err, /1,000 jobs of the lines before 1,001 are enqueued, none after/);
    assert.match(run.err, /go on with --from-line 1001/);

    await file("bad.ndjson", [...lines, { n: 8 }, { n: 9 }]);
    const rest = await enqueue(["bad.line", "--file", name, "--from-line", "1001", "--json"]);

    assert.equal(rest.json()["created"], 202);
    const [row] = await context.db.sql`
      select count(*)::int as jobs from public.job_queue where type = 'bad.line'`;
    assert.equal(row?.["jobs"], 1_202);
  });

  it("a line with a wrong field, and one that the queue refuses, are told apart", async () => {
    const field = await enqueue(["--file", await file("field.ndjson", [{ type: "a", kind: 1 }])]);
    const refused = await enqueue([
      "--file",
      await file("prio.ndjson", [{ type: "a", priority: "x" }]),
    ]);

    assert.match(field.err, /Line 1 has an unknown field: kind[\s\S]*nothing was enqueued/);
    assert.equal(refused.code, 2);
    assert.match(refused.err, /In lines 1 to 1: [\s\S]*priority/);
  });

  it("a long file has a bar where somebody watches", async () => {
    const lines = Array.from({ length: 3_000 }, (_, n) => ({ n }));
    const name = await file("long.ndjson", lines);

    const run = await enqueue(["long.file", "--file", name], { isTerminal: true });
    const piped = await enqueue(["long.file", "--file", name]);

    assert.match(run.err, /enqueuing {2}█*░* {2}0.0 MB of 0.0 MB/);
    assert.match(run.out, /✓ 3,000 jobs enqueued/);
    assert.equal(piped.err, "");
  });

  it("a stop ends it after the lines that are committed: exit 130", async () => {
    const name = await file("stopped.ndjson", [{ n: 1 }]);

    const run = await enqueue(["stopped.file", "--file", name], { stop: AbortSignal.abort() });

    assert.equal(run.code, 130);
    assert.match(run.err, /Interrupted: nothing was enqueued[\s\S]*--from-line 1\n/);
  });
});
