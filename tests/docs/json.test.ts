/** The JSON of docs/: what is said to be sent and answered is what is sent and answered. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { receiveJob } from "../../src/http/received-job.ts";
import { defineJob } from "../../src/index.ts";
import { type CliRun, cli } from "../cli/run.ts";
import { workerRig } from "../http/worker-rig.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { assertShape, documented, documentsOf } from "./documented.ts";

const CLI = "docs/cli.md";
const SUPABASE = "docs/supabase.md";

describeWithDatabase(`JSON in ${CLI}`, (context) => {
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), `millrace-test-${process.pid}-json-`));
    await mkdir(join(folder, "supabase"));
    await writeFile(join(folder, "supabase/config.toml"), 'project_id = "demo"\n');
  });
  after(() => rm(folder, { recursive: true }));

  const millrace = (...argv: string[]): Promise<CliRun> =>
    cli([...argv, "--json"], { cwd: folder, env: { DATABASE_URL: context.db.url } });

  it("is what a failure looks like, to the letter", async () => {
    const run = await millrace("jobs", "show", "7");

    assert.deepEqual(JSON.parse(run.err), await documented(CLI, "error"));
  });

  it("is a line that `enqueue --file` takes", async () => {
    const line = await documented(CLI, "type");
    await writeFile(join(folder, "jobs.ndjson"), `${JSON.stringify(line)}\n`);

    const run = await millrace("enqueue", "--file", "jobs.ndjson");

    assert.equal(run.code, 0, run.err);
    const [job] = await context.db.sql`
      select type, payload, priority from public.job_queue where id = ${String(run.json()["first_id"])}`;
    const { idempotency_key: _key, ...facts } = line;
    assert.deepEqual({ ...job }, facts);
  });

  it("is what acts on several jobs answer, to the letter", async () => {
    const { id } = (await millrace("enqueue", "mail.send")).json<{ id: string }>();

    const run = await millrace("jobs", "cancel", id, "99999");

    const said = JSON.stringify(await documented(CLI, "results"));
    const expected = said.replace('"id":"7"', `"id":"${id}"`).replace('"id":"8"', '"id":"99999"');
    assert.deepEqual(run.json(), JSON.parse(expected));
  });

  it("has the shape of what init and doctor answer", async () => {
    assertShape((await millrace("init", "--supabase")).json(), await documented(CLI, "project"));
    assertShape((await millrace("doctor")).json(), await documented(CLI, "status"));
  });
});

describeWithDatabase(`JSON in ${SUPABASE}`, (context) => {
  const rig = workerRig(context);
  const welcome = defineJob("send_welcome", { maxRetries: 0 });

  it("has the shape of the job that a function gets, which jobFunction reads", async () => {
    const sent = await documented(SUPABASE, "id");
    await rig.queue.enqueue(welcome, { to: "ada@example.com" });
    await rig.run(rig.workerOf());

    assertShape(JSON.parse(rig.functions.heard[0]?.body ?? ""), sent);
    const body = JSON.stringify(sent).replace("<ref>", "ref").replace("…", "t0ken");
    const request = new Request("https://ref.test/", {
      method: "POST",
      headers: { authorization: "Bearer jwt" },
      body,
    });
    const access = { keys: { serviceTokens: ["jwt"], secretKeys: [] } };
    const job = await receiveJob(request, { access });
    assert.deepEqual([job.id, job.type, job.maxAttempts], ["42", "send_welcome", 4]);
  });

  it("is what a function may report, in this order", async () => {
    const reports = (await documentsOf(SUPABASE)).filter((one) => "report" in one);
    assert.deepEqual(
      reports.map(({ report }) => report),
      ["progress", "extend", "complete", "fail"],
    );
    const worker = rig.workerOf();
    const tokens: string[] = [];
    rig.functions.answer((call, response) => {
      tokens.push(JSON.parse(call.body).callback.token);
      response.writeHead(202).end();
    });
    const one = await rig.queue.enqueue(welcome, {});
    await rig.run(worker);
    const two = await rig.queue.enqueue(welcome, {});
    await rig.run(worker);

    for (const body of reports) {
      const token = tokens[body["report"] === "fail" ? 1 : 0] ?? "";
      const answer = await rig.report(worker, token, body);
      assert.equal(answer.status, 200, JSON.stringify(body));
    }

    const [done, failed] = [await rig.queue.get(one), await rig.queue.get(two)];
    assert.deepEqual([done.status, done.result], ["completed", { pages: 7 }]);
    assert.equal(failed.status, "failed");
    assert.match(failed.last_error ?? "", /the mailbox is gone/);
  });

  it("has the shape of what a run answers", async () => {
    assertShape(await rig.run(rig.workerOf()), await documented(SUPABASE, "claimed"));
  });
});
