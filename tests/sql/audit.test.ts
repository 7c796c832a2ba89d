/** The audit: what people and maintenance did, by whom, and that nobody can rewrite it. */
import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { maintainAll } from "../support/maintenance.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";

interface Entry {
  readonly actor: string;
  readonly action: string;
  readonly job_id: string | null;
  readonly detail: Readonly<Record<string, unknown>>;
}

describeOnEachServer("the audit", (context) => {
  /** What was written down while something was done. */
  async function written(act: () => PromiseLike<unknown>): Promise<Entry[]> {
    const { sql } = context.db;
    const [last] = await sql<{ id: string }[]>`
      select coalesce(max(id), 0) as id from queue.audit`;
    await act();
    const rows = await sql<Entry[]>`
      select actor, action, job_id, detail from queue.audit where id > ${only(last).id} order by id`;
    return rows.map((row) => ({ ...row }));
  }

  it("tells who cancelled a waiting job, from which status, and why", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const id = await enqueue("cancelled");

    const entries = await written(() => sql`select public.cancel_job(${id}, 'ordered twice')`);

    assert.deepEqual(entries, [
      {
        actor: "postgres",
        action: "cancelled",
        job_id: id,
        detail: { from: "pending", to: "cancelled", reason: "ordered twice" },
      },
    ]);
  });

  it("tells who asked a running job to stop", async () => {
    const { start, sql } = rigOf(context.db);
    const { id } = await start("stopped");

    const entries = await written(() => sql`select public.cancel_job(${id}, 'enough')`);

    assert.deepEqual(entries, [
      { actor: "postgres", action: "cancel_requested", job_id: id, detail: { reason: "enough" } },
    ]);
  });

  it("tells that a scheduled job was run at once", async () => {
    const { enqueue, inMs, sql } = rigOf(context.db);
    const id = await enqueue("hurried", { scheduledAt: await inMs(60_000) });

    const [entry] = await written(() => sql`select public.retry_job(${id}, 'can not wait')`);

    assert.deepEqual(
      [entry?.action, entry?.job_id, entry?.detail],
      ["expedited", id, { from: "scheduled", to: "pending", reason: "can not wait" }],
    );
  });

  it("tells that a failed job was run again, by a retry or a redrive", async () => {
    const { bury, sql } = rigOf(context.db);
    const retried = await bury("dead");
    const redriven = await bury("dead");

    const entries = await written(async () => {
      await sql`select public.retry_job(${retried}, 'one')`;
      await sql`select from public.redrive_jobs(array[${redriven}]::bigint[], p_reason => 'all')`;
    });

    assert.deepEqual(
      entries.map(({ action, job_id, detail }) => [action, job_id, detail["reason"]]),
      [
        ["redriven", retried, "one"],
        ["redriven", redriven, "all"],
      ],
    );
  });

  it("tells which dead letters were purged", async () => {
    const { bury, sql } = rigOf(context.db);
    const ids = [await bury("purged"), await bury("purged")];

    const entries = await written(
      () => sql`select public.purge_jobs(p_type => 'purged', p_reason => 'privacy')`,
    );

    assert.deepEqual(entries, [
      {
        actor: "postgres",
        action: "purged",
        job_id: null,
        detail: { count: 2, reason: "privacy", ids: ids.map(Number) },
      },
    ]);
  });

  it("tells when a queue was paused and resumed, once for each", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await enqueue("line");

    const entries = await written(async () => {
      await sql`select public.pause_queue('line', 'provider is down')`;
      await sql`select public.pause_queue('line', 'still')`;
      await sql`select public.resume_queue('line')`;
      await sql`select public.resume_queue('line')`;
    });

    assert.deepEqual(
      entries.map(({ action, detail }) => [action, detail]),
      [
        ["queue_paused", { queue: "line", reason: "provider is down" }],
        ["queue_resumed", { queue: "line", reason: null }],
      ],
    );
  });

  it("tells which ids went with a partition, and how many dead letters grew too old", async () => {
    const { bury, enqueue, clear, sql } = rigOf(context.db);
    const id = await bury("old");
    await clear();
    await sql`select queue.maintain()`;
    await context.db.advance(86_401_000);
    await sql`select queue.maintain()`;
    await enqueue("of-another-day");
    await context.db.advance(91 * 86_400_000);

    const entries = await written(() => maintainAll(sql));

    const [letters, part] = entries;
    assert.deepEqual(
      entries.map(({ action }) => action),
      ["dead_letters_expired", "partition_dropped"],
    );
    const { number, first_id, end_id } = only(part).detail;
    assert.equal(number, 1);
    assert.ok(Number(first_id) <= Number(id) && Number(id) < Number(end_id));
    assert.ok(Number(letters?.detail["count"]) >= 1);
  });

  it("names the role and the user of the token", async () => {
    const id = await rigOf(context.db).enqueue("by-person");
    const operator = context.db.connectAs("service_role", { sub: "ada@example.com" });

    const [entry] = await written(() => operator`select public.cancel_job(${id})`);

    assert.equal(entry?.actor, "service_role:ada@example.com");
  });

  const NOTHING: readonly {
    what: string;
    act: (sql: TestSql, id: string) => PromiseLike<unknown>;
  }[] = [
    { what: "a dry run", act: (sql) => sql`select from public.redrive_jobs(p_dry_run => true)` },
    {
      what: "a purge that found nothing",
      act: (sql) => sql`select public.purge_jobs(p_type => 'nobody')`,
    },
    { what: "a retry that could not be", act: (sql) => sql`select public.retry_job(999999999)` },
    { what: "a cancel of an unknown job", act: (sql) => sql`select public.cancel_job(999999999)` },
    { what: "a cancel of an ended job", act: (sql, id) => sql`select public.cancel_job(${id})` },
    { what: "maintenance without work", act: (sql) => sql`select queue.maintain()` },
  ];
  for (const { what, act } of NOTHING) {
    it(`is silent about ${what}`, async () => {
      const { bury } = rigOf(context.db);
      const id = await bury("ended");

      assert.deepEqual(await written(() => act(context.db.sql, id)), []);
    });
  }

  it("is silent about the life of a job that nobody meddled with", async () => {
    const { start, complete, fail, settle, take } = rigOf(context.db);

    const entries = await written(async () => {
      await fail(await start("plain"), "once", { after: 0 });
      await settle(await take("plain"), { outcome: "released" });
      await complete(await take("plain"));
    });

    assert.deepEqual(entries, []);
  });

  it("holds nothing of what was rolled back", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const id = await enqueue("undone");

    const entries = await written(() =>
      assert.rejects(
        sql.begin(async (tx) => {
          await tx`select public.cancel_job(${id})`;
          throw new Error("no");
        }),
      ),
    );

    assert.deepEqual(entries, []);
  });

  it("keeps the time of the queue's clock", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const id = await enqueue("timed");
    await context.db.advance(3_600_000);
    const before = await context.db.now();
    await sql`select public.cancel_job(${id})`;

    const [row] = await sql<{ at: Date }[]>`select at from queue.audit where job_id = ${id}`;

    assert.ok(only(row).at >= before);
  });

  const CHANGES = [
    "update queue.audit set actor = 'somebody else'",
    "delete from queue.audit",
    "delete from queue.audit where false",
    "truncate queue.audit",
  ];
  for (const change of CHANGES) {
    it(`can't be changed, not even by its owner or the superuser: ${change}`, async () => {
      const byOwner = await refusal(context.db.sql.unsafe(change));
      const bySuperuser = await refusal(context.db.superSql.unsafe(change));

      assert.deepEqual([byOwner.code, bySuperuser.code], ["42501", "42501"]);
      assert.match(byOwner.message, /audit is append only/);
    });
  }
});
