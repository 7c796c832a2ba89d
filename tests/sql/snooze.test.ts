import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { rigOf } from "./rig.ts";

describeOnEachServer("snooze", (context) => {
  it("runs the job again after the delay, with the attempt given back", async () => {
    const { claim, row, settle, start, take } = rigOf(context.db);
    const job = await start("later", { maxRetries: 0 });

    const status = await settle(job, { outcome: "snoozed", detail: { delay_ms: 5000 } });

    assert.equal(status, "scheduled");
    assert.equal((await row(job.id)).attempts, 0);
    await context.db.advance(4000);
    assert.deepEqual([...(await claim("later"))], []);
    await context.db.advance(1000);
    assert.equal((await take("later")).attempt, 1);
  });

  it("may be done as often as one likes, even by a job without retries", async () => {
    const { enqueue, row, settle, sql, take } = rigOf(context.db);
    const id = await enqueue("often", { maxRetries: 0 });

    for (let n = 0; n < 5; n += 1) {
      const job = await take("often");
      await settle(job, { outcome: "snoozed", detail: { delay_ms: 0, reason: `round ${n}` } });
    }

    assert.deepEqual([(await row(id)).status, (await row(id)).attempts], ["scheduled", 0]);
    const runs = await sql<{ reason: string; attempt: number }[]>`
      select reason, attempt from queue.runs where job_id = ${id} order by lease_id`;
    assert.deepEqual(
      runs.map(({ reason, attempt }) => `${reason} ${attempt}`),
      ["round 0 1", "round 1 1", "round 2 1", "round 3 1", "round 4 1"],
    );
  });

  it("does not give back attempts that failed before", async () => {
    const { enqueue, fail, row, settle, take } = rigOf(context.db);
    const id = await enqueue("mixed", { options: { backoff: { base_ms: 0 } } });

    await fail(await take("mixed"));
    await settle(await take("mixed"), { outcome: "snoozed", detail: { delay_ms: 0 } });

    assert.equal((await row(id)).attempts, 1);
    assert.equal((await take("mixed")).attempt, 2);
  });

  it("is no error: nothing shows as the last one", async () => {
    const { row, settle, start } = rigOf(context.db);
    const job = await start("calm");

    await settle(job, { outcome: "snoozed", detail: { delay_ms: 1000, reason: "not ready" } });

    assert.deepEqual([(await row(job.id)).last_error, (await row(job.id)).error], [null, null]);
  });

  it("cancels when somebody asked for it", async () => {
    const { settle, sql, start } = rigOf(context.db);
    const job = await start("unwanted");
    await sql`select public.cancel_job(${job.id})`;

    assert.equal(await settle(job, { outcome: "snoozed", detail: { delay_ms: 1 } }), "cancelled");
  });

  it("needs a live lease", async () => {
    const { settle, start, status } = rigOf(context.db);
    const job = await start("lease");

    const answer = await settle({ ...job, lease_id: "999999999" }, { outcome: "snoozed" });

    assert.equal(answer, null);
    assert.equal(await status(job.id), "processing");
  });

  const delays: [string, unknown, number][] = [
    ["a negative delay for none", -1000, 0],
    ["an endless delay for a hundred years", 1e300, 3_155_760_000_000],
  ];
  for (const [what, delay, ms] of delays) {
    it(`takes ${what}`, async () => {
      const { settle, sql, start } = rigOf(context.db);
      const job = await start(`delay ${String(delay)}`.replace(" ", "."));

      await settle(job, { outcome: "snoozed", detail: { delay_ms: delay } });

      const [run] = await sql<{ ms: number }[]>`
        select (extract(epoch from retry_at - finished_at) * 1000)::float8 as ms
        from queue.runs where job_id = ${job.id}`;
      assert.equal(run?.ms, ms);
    });
  }
});
