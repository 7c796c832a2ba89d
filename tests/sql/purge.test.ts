import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

describeOnEachServer("purge_jobs", (context) => {
  beforeEach(async () => {
    await context.db.sql`delete from queue.dead_letters`;
  });

  async function letters(): Promise<string[]> {
    const rows = await context.db.sql<
      { id: string }[]
    >`select id from public.job_dead_letter order by id`;
    return rows.map(({ id }) => id);
  }

  it("deletes the dead letters that match; their jobs stay failed", async () => {
    const { bury, sql, status } = rigOf(context.db);
    const [wanted, other] = [await bury("old"), await bury("new")];

    const [row] = await sql`select public.purge_jobs(p_type => 'old') as n`;

    assert.equal(row?.["n"], 1);
    assert.deepEqual(await letters(), [other]);
    assert.equal(await status(wanted), "failed");
  });

  it("has the filters of redrive_jobs", async () => {
    const { bury, inMs, sql } = rigOf(context.db);
    const ids = [
      await bury("p", { tenant: "a" }, "one"),
      await bury("p", { tenant: "b" }, "one"),
      await bury("p", { tenant: "b" }, "two"),
    ];
    await context.db.advance(60_000);
    const before = await inMs(-1000);
    const young = await bury("p", { tenant: "c" }, "one");

    const [row] = await sql`
      select public.purge_jobs(p_ids => array[${only(ids[0])}]::bigint[], p_dry_run => true) as by_id,
        public.purge_jobs(p_tenant_id => 'b', p_dry_run => true) as by_tenant,
        public.purge_jobs(p_failed_before => ${before}, p_dry_run => true) as by_age,
        public.purge_jobs(p_limit => 2, p_dry_run => true) as by_limit,
        public.purge_jobs(p_fingerprint => (
          select fingerprint from public.job_dead_letter where id = ${young}), p_dry_run => true) as by_print`;

    assert.deepEqual({ ...row }, { by_id: 1, by_tenant: 2, by_age: 3, by_limit: 2, by_print: 3 });
    assert.deepEqual(await letters(), [...ids, young]);
  });

  it("is written down with the ids that went", async () => {
    const { bury, sql } = rigOf(context.db);
    const id = await bury("audited");

    await sql`select public.purge_jobs(p_reason => 'spring cleaning')`;

    const [entry] =
      await sql`select actor, action, detail from queue.audit order by id desc limit 1`;
    assert.deepEqual(
      { ...entry },
      {
        actor: "postgres",
        action: "purged",
        detail: { count: 1, reason: "spring cleaning", ids: [Number(id)] },
      },
    );
  });

  it("writes nothing down when nothing matched", async () => {
    const { sql } = context.db;
    const count = async () => (await sql`select from queue.audit`).length;
    const before = await count();

    const [row] = await sql`select public.purge_jobs(p_type => 'nothing') as n`;

    assert.equal(row?.["n"], 0);
    assert.equal(await count(), before);
  });
});
