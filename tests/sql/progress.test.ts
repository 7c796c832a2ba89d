import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { type Leased, only, rigOf } from "./rig.ts";

interface News {
  readonly percent?: number | string | null;
  readonly message?: string | null;
  readonly data?: unknown;
}

describeOnEachServer("report_progress", (context) => {
  async function report(job: Leased, news: News): Promise<boolean> {
    const { sql } = context.db;
    const [row] = await sql<{ kept: boolean }[]>`
      select public.report_progress(${job.id}, ${news.percent ?? null}::text::numeric, ${news.message ?? null},
        ${news.data === undefined ? null : sql.json(news.data as never)}, ${job.lease_id}) as kept`;
    return only(row).kept;
  }

  async function progressOf(id: string): Promise<unknown[]> {
    const row = await rigOf(context.db).row(id);
    return [row.progress_percent, row.progress_message, row.progress_data];
  }

  it("shows how far a job is", async () => {
    const job = await rigOf(context.db).start("far");

    assert.equal(await report(job, { percent: 12.5, message: "page 3", data: { page: 3 } }), true);

    assert.deepEqual(await progressOf(job.id), ["12.50", "page 3", { page: 3 }]);
  });

  it("a null keeps the last value", async () => {
    const job = await rigOf(context.db).start("keep");
    await report(job, { percent: 40, message: "begun", data: [1] });

    await report(job, { message: "goes on" });
    await report(job, { percent: 60 });

    assert.deepEqual(await progressOf(job.id), ["60.00", "goes on", [1]]);
  });

  it("a first report without a percentage shows none", async () => {
    const job = await rigOf(context.db).start("first");

    await report(job, { message: "just a word" });

    assert.deepEqual(await progressOf(job.id), [null, "just a word", null]);
  });

  const percents: [string, string, string | null][] = [
    ["less than nothing as nothing", "-3", "0.00"],
    ["more than all as all", "250", "100.00"],
    ["no number as none", "NaN", null],
    ["endless as all", "Infinity", "100.00"],
    ["a third with two digits", "33.33333", "33.33"],
  ];
  for (const [what, percent, shown] of percents) {
    it(`takes ${what}`, async () => {
      const job = await rigOf(context.db).start("bounds");

      assert.equal(await report(job, { percent }), true);

      assert.equal((await progressOf(job.id))[0], shown);
    });
  }

  it("cuts a long message", async () => {
    const job = await rigOf(context.db).start("long");

    await report(job, { message: "é".repeat(5000) });

    assert.equal((await progressOf(job.id))[1], "é".repeat(1000));
  });

  it("without a lease reports for the live one", async () => {
    const { sql, start } = rigOf(context.db);
    const job = await start("simple");

    const [row] = await sql`select public.report_progress(${job.id}, 5) as kept`;

    assert.equal(row?.["kept"], true);
    assert.equal((await progressOf(job.id))[0], "5.00");
  });

  it("stays visible when the job has ended, but takes no more", async () => {
    const { complete, start } = rigOf(context.db);
    const job = await start("ended");
    await report(job, { percent: 99 });
    await complete(job);

    assert.equal(await report(job, { percent: 1 }), false);

    assert.equal((await progressOf(job.id))[0], "99.00");
  });

  it("takes none for a job of a batch that has ended while others go on", async () => {
    const { claim, complete, enqueue } = rigOf(context.db);
    await enqueue("batch");
    await enqueue("batch");
    const [ended, running] = await claim("batch", { batch: 2 });
    await complete(only(ended));

    assert.deepEqual(
      [await report(only(ended), { percent: 1 }), await report(only(running), { percent: 2 })],
      [false, true],
    );
  });

  it("says false for a job that is not running", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const id = await enqueue("idle");

    const [row] = await sql`
      select public.report_progress(${id}, 5) as waiting, public.report_progress(999999999, 5) as unknown`;

    assert.deepEqual({ ...row }, { waiting: false, unknown: false });
  });
});
