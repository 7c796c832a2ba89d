import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import { createQueue, defineJob, type Queue } from "../../src/index.ts";
import { describeWithDatabase } from "../support/suite.ts";

const job = defineJob("awaited");

describeWithDatabase("awaiting a result", (context) => {
  let sql: Sql;
  let queue: Queue;
  before(() => {
    sql = connect(context.db.url);
    queue = createQueue({ sql });
  });
  after(() => sql.close());

  /** Ends a job by SQL, as a worker in another language would. */
  async function complete(id: string, result: string): Promise<void> {
    await context.db.sql`select * from public.get_next_job('sql-worker', '{awaited}', 100)`;
    await context.db.sql`select public.complete_job(${id}, ${result}::text::jsonb)`;
  }

  it("gives what the job ended with, whoever ran it", async () => {
    const enqueued = await queue.enqueue(job, {});
    const waiting = enqueued.result();

    await complete(enqueued.id, '{"n": 1}');

    assert.deepEqual(await waiting, { n: 1 });
    assert.deepEqual(await queue.result(enqueued.id), { n: 1 });
  });

  it("gives up after its time, while the job goes on", async () => {
    const enqueued = await queue.enqueue(job, {});

    await assert.rejects(enqueued.result({ timeoutMs: 30 }), {
      code: "RESULT_TIMEOUT",
      jobId: enqueued.id,
      timeoutMs: 30,
    });
    assert.equal((await queue.get(enqueued)).status, "pending");
  });

  it("gives up when its signal aborts, with the signal's reason", async () => {
    const enqueued = await queue.enqueue(job, {});
    const controller = new AbortController();

    const waiting = enqueued.result({ signal: controller.signal });
    controller.abort(new Error("user went away"));

    await assert.rejects(waiting, /user went away/);
  });

  it("of a cancelled or an unknown job there is none", async () => {
    const enqueued = await queue.enqueue(job, {});
    await queue.cancel(enqueued, { reason: "not needed" });

    await assert.rejects(enqueued.result(), { code: "JOB_CANCELLED", message: /not needed/ });
    await assert.rejects(queue.result("999999"), { code: "UNKNOWN_JOB", jobId: "999999" });
  });

  it("goes on waiting through an outage", async () => {
    const enqueued = await queue.enqueue(job, {});
    const waiting = enqueued.result();
    for (let round = 0; round < 3; round += 1) {
      await context.db.superSql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'millrace'`;
    }
    await complete(enqueued.id, "true");

    assert.equal(await waiting, true);
  });
});
