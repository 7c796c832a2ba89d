/** The TypeScript of README and docs/: every block has the types it claims, and README's application does its work. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { eventually } from "../support/eventually.ts";
import { spawnProcess, spawnScript } from "../support/processes.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { blocksOf, ROOT } from "./blocks.ts";
import { makeTypeScriptProject, type TypeScriptProject } from "./typescript-project.ts";

const TSC = `${ROOT}node_modules/.bin/tsc`;

describe("TypeScript in README and docs/", () => {
  let project: TypeScriptProject;
  before(async () => {
    project = await makeTypeScriptProject();
  });
  after(() => project.remove());

  it("has no type error", async () => {
    assert.ok(project.files.size >= 10, [...project.files.values()].join());

    const tsc = spawnProcess(TSC, { args: ["-p", project.folder], cwd: project.folder });
    const { code } = await tsc.exited;

    assert.equal(code, 0, `${tsc.output()}\n${JSON.stringify([...project.files])}`);
  });
});

describeWithDatabase("README's application", (context) => {
  let project: TypeScriptProject;
  before(async () => {
    project = await makeTypeScriptProject();
  });
  after(() => project.remove());

  it("enqueues a job, from TypeScript and from SQL, and mails both receipts", async () => {
    const env = { DATABASE_URL: context.db.url, TSX_TSCONFIG_PATH: project.tsconfig };
    const folder = join(project.folder, "README");
    const [sql] = await blocksOf("README.md", "sql");
    const jobs = async () => [
      ...(await context.db
        .sql`select type, payload, priority, status from public.job_queue order by id`),
    ];

    await context.db.sql`create table orders (id text primary key)`;
    const producer = spawnScript(join(folder, "orders.ts"), { env });
    await eventually(async () => (await jobs()).length === 1, { timeoutMs: 30_000 });
    await producer.kill();
    assert.deepEqual([...(await context.db.sql`select id from orders`)], [{ id: "42" }]);
    await context.db.sql.unsafe(sql?.code ?? "");
    const payload = { orderId: "42", email: "ada@example.com" };
    const receipt = { type: "billing.receipt", payload };
    assert.deepEqual(await jobs(), [
      { ...receipt, priority: "normal", status: "pending" },
      { ...receipt, priority: "high", status: "pending" },
    ]);

    const args = ["work", join(folder, "app.ts"), "--json"];
    const worker = spawnScript(`${ROOT}src/cli/main.ts`, { args, env });
    const mails = () => worker.output().match(/^mail to ada@example.com receipt:42$/gm)?.length;
    await eventually(() => mails() === 2, { timeoutMs: 30_000 });
    await eventually(async () => (await jobs()).every(({ status }) => status === "completed"));
    await worker.kill();
    assert.equal(mails(), 2);
  });
});
