import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, defineJob, type Queue } from "../../src/index.ts";
import { describeWithDatabase } from "../support/suite.ts";

const job = defineJob("operated", { maxRetries: 0 });

describeWithDatabase("operating the queue", (context) => {
  let sql: Sql;
  let queue: Queue;
  before(() => {
    sql = connect(context.db.url);
    queue = createQueue({ sql });
  });
  after(() => sql.close());

  async function fail(id: string, message: string): Promise<void> {
    await context.db.sql`select * from public.get_next_job('w', '{operated}', 100)`;
    await context.db.sql`select public.fail_job(${id}, ${message})`;
  }

  it("cancels a waiting job at once, and says so of an ended or unknown one", async () => {
    const waiting = await queue.enqueue(job, {});

    assert.equal(await queue.cancel(waiting, { reason: "why not" }), "cancelled");
    assert.equal(await queue.cancel(waiting), "cancelled");
    await assert.rejects(queue.cancel("999999"), { code: "UNKNOWN_JOB" });
    const history = await queue.history(waiting);
    assert.deepEqual(
      history.map((change) => [change.to_status, change.reason]),
      [
        ["pending", null],
        ["cancelled", "why not"],
      ],
    );
  });

  it("runs a scheduled job now, and a failed one again", async () => {
    const later = await queue.enqueue(job, {}, { delay: "1h" });
    assert.equal(await queue.retry(later), "pending");
    assert.equal((await queue.get(later)).status, "pending");

    const failing = await queue.enqueue(job, {});
    await fail(failing.id, "broken");
    assert.equal(await queue.retry(failing), "pending");
    assert.equal(await queue.retry("999999"), null);
    await queue.cancel(later);
    await queue.cancel(failing);
  });

  it("redrives dead letters, after showing which; purges the rest", async () => {
    const jobs = await queue.enqueueMany(job, [1, 2, 3]);
    for (const each of jobs) await fail(each.id, `error of ${each.id}`);
    const ids = jobs.map((each) => each.id);

    const shown = await queue.redrive({ type: "operated", dryRun: true });
    assert.deepEqual(shown.map((row) => row.id).sort(), [...ids].sort());
    assert.equal((await queue.get(ids[0] ?? "0")).status, "failed");

    const redriven = await queue.redrive({ ids: ids.slice(0, 1) });
    assert.deepEqual(
      redriven.map((row) => [row.id, row.new_id]),
      [[ids[0], ids[0]]],
    );
    assert.equal((await queue.get(ids[0] ?? "0")).status, "pending");
    assert.equal(await queue.purge({ type: "operated" }), 2);
    assert.deepEqual(await queue.redrive({ type: "operated" }), []);
    await queue.cancel(ids[0] ?? "0");
  });

  it("pauses and resumes a queue, and explains what that means for a job", async () => {
    const waiting = await queue.enqueue(job, {});

    assert.equal(await queue.pause("operated", { reason: "maintenance" }), true);
    assert.equal(await queue.pause("operated"), false);
    const { reasons } = await queue.explain(waiting);
    assert.ok(
      reasons.some(
        (reason) => reason.code === "queue_paused" && /maintenance/.test(reason.message),
      ),
    );
    assert.equal((await queue.stats("operated"))[0]?.is_paused, true);
    assert.equal(await queue.resume("operated"), true);
    await assert.rejects(queue.pause("nowhere"), { code: "UNKNOWN_QUEUE" });
    await queue.cancel(waiting);
  });

  it("lists jobs newest first, filtered, page by page", async () => {
    const made = await queue.enqueueMany(defineJob("listed"), [1, 2, 3, 4, 5], {
      tenantId: "acme",
    });
    const ids = made.map((each) => each.id).reverse();

    const first = await queue.list({ type: "listed", limit: 2 });
    const second = await queue.list({ type: "listed", limit: 2, beforeId: first.at(-1)?.id });

    assert.deepEqual(
      first.map((row) => row.id),
      ids.slice(0, 2),
    );
    assert.deepEqual(
      second.map((row) => row.id),
      ids.slice(2, 4),
    );
    assert.equal((await queue.list({ tenantId: "acme", status: "pending" })).length, 5);
    assert.equal((await queue.list({ tenantId: "acme", status: "failed" })).length, 0);
  });

  it("tells how things stand", async () => {
    const [stats] = await queue.stats("listed");
    assert.equal(stats?.pending, 5);
    const { status, schema_version, problems } = await queue.health();
    assert.ok(["ok", "degraded"].includes(status));
    assert.equal(schema_version, 1);
    assert.ok(Array.isArray(problems));
  });

  it("keeps ids that are larger than a JavaScript number", async () => {
    await assert.rejects(queue.get("9007199254740993"), {
      code: "UNKNOWN_JOB",
      jobId: "9007199254740993",
    });
  });
});
