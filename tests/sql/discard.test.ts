import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

describeOnEachServer("discard", (context) => {
  it("ends a job as failed however many attempts remain, with the reason as its error", async () => {
    const { row, settle, sql, start } = rigOf(context.db);
    const job = await start("useless", { maxRetries: 9 });

    const status = await settle(job, {
      outcome: "discarded",
      detail: { reason: "account is gone" },
    });

    assert.equal(status, "failed");
    assert.equal((await row(job.id)).last_error, "account is gone");
    const [letter] = await sql`select * from public.job_dead_letter where id = ${job.id}`;
    assert.deepEqual(
      [only(letter)["last_error"], only(letter)["attempts"]],
      ["account is gone", 1],
    );
  });

  it("prefers an error over a reason", async () => {
    const { row, settle, start } = rigOf(context.db);
    const job = await start("both");

    await settle(job, {
      outcome: "discarded",
      detail: { reason: "poison", error: { name: "TypeError", message: "no such field" } },
    });

    assert.deepEqual((await row(job.id)).error, { name: "TypeError", message: "no such field" });
  });

  it("needs neither", async () => {
    const { row, settle, start } = rigOf(context.db);
    const job = await start("neither");

    assert.equal(await settle(job, { outcome: "discarded" }), "failed");
    assert.equal((await row(job.id)).last_error, "unknown error");
  });

  it("can be redriven like any dead letter", async () => {
    const { settle, sql, start, status } = rigOf(context.db);
    const job = await start("again");
    await settle(job, { outcome: "discarded", detail: { reason: "too early" } });

    await sql`select from public.redrive_jobs(array[${job.id}]::bigint[])`;

    assert.equal(await status(job.id), "pending");
  });

  it("cancels the children, as any failure does", async () => {
    const { enqueue, row, settle, start } = rigOf(context.db);
    const parent = await start("parent");
    const child = await enqueue("child", { dependsOn: [parent.id] });

    await settle(parent, { outcome: "discarded", detail: { reason: "no" } });

    assert.deepEqual(
      [(await row(child)).status, (await row(child)).last_error],
      ["cancelled", `its parent ${parent.id} failed`],
    );
  });
});
