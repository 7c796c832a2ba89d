/** What a job costs, told by counting and without a clock: rows written, and functions called, by a call for many jobs. */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

const JOBS = 500;

interface Cost {
  /** Rows of all tables, by what was done to them. */
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
  /** Functions of ours that were called, those inside of others too. */
  readonly calls: number;
}

/** What some calls do, in a transaction of their own. */
async function costOf(sql: TestSql, work: (tx: TestSql) => Promise<void>): Promise<Cost> {
  return sql.begin(async (tx) => {
    await tx`set local track_functions = 'all'`;
    // These counters hold what the session did before, as long as that was not handed over.
    const before = await counters(tx as unknown as TestSql);
    await work(tx as unknown as TestSql);
    const after = await counters(tx as unknown as TestSql);
    return {
      inserted: after.inserted - before.inserted,
      updated: after.updated - before.updated,
      deleted: after.deleted - before.deleted,
      calls: after.calls - before.calls,
    };
  });
}

async function counters(sql: TestSql): Promise<Cost> {
  const [row] = await sql<Cost[]>`
    select done.*, called.* from (
      select sum(n_tup_ins)::int as inserted, sum(n_tup_upd)::int as updated, sum(n_tup_del)::int as deleted
      from pg_stat_xact_user_tables where schemaname = 'queue'
    ) as done, (
      select coalesce(sum(calls), 0)::int as calls from pg_stat_xact_user_functions where schemaname = 'queue'
    ) as called`;
  return only(row);
}

describeOnEachServer(
  "five hundred jobs at once",
  (context) => {
    let worker = 0;
    before(async () => {
      worker = await registerWorker(context.db.sql, "thrifty");
    });
    beforeEach(() => rigOf(context.db).clear());

    const payloads = JSON.stringify(Array.from({ length: JOBS }, (_, n) => ({ n })));

    it("are enqueued with two rows for each, and no function for any", async () => {
      // Names that are new are made at their first use.
      await rigOf(context.db).enqueue("cheap");
      const cost = await costOf(context.db.superSql, async (tx) => {
        await tx`select queue.enqueue_alike('cheap', ${payloads}::text::jsonb)`;
      });

      assert.deepEqual(
        { ...cost, calls: cost.calls <= 20 },
        { inserted: JOBS * 2, updated: 0, deleted: 0, calls: true },
      );
    });

    it("are claimed with one row for all, and completed with one for each", async () => {
      const { superSql } = context.db;
      await superSql`select queue.enqueue_alike('cheap', ${payloads}::text::jsonb)`;
      let lease = "";
      const claim = await costOf(superSql, async (tx) => {
        const answer = await advance(tx, worker, { limit: JOBS });
        assert.equal(answer.jobs.length, JOBS);
        lease = answer.jobs[0]?.[0] ?? "";
      });
      const end = await costOf(superSql, async (tx) => {
        const ms = Array.from({ length: JOBS }, () => 1);
        const answer = await advance(tx, worker, { whole: [{ lease, ms }], limit: JOBS });
        assert.deepEqual([answer.lost, answer.jobs], [null, []]);
      });

      assert.deepEqual(
        { ...claim, calls: claim.calls <= 30 },
        { inserted: 1, updated: 0, deleted: JOBS, calls: true },
        `${claim.calls} functions were called to claim`,
      );
      assert.deepEqual(
        { ...end, calls: end.calls <= 30 },
        { inserted: JOBS, updated: 0, deleted: 1, calls: true },
        `${end.calls} functions were called to complete`,
      );
    });

    it("of many tenants are claimed without a function for each", async () => {
      const { superSql } = context.db;
      await superSql`
        select queue.enqueue_many((
          select jsonb_agg(jsonb_build_object('type', 'cheap', 'tenant_id', 'tenant-' || n % 250))
          from generate_series(1, ${JOBS * 2}::int) as n))`;
      const claim = await costOf(superSql, async (tx) => {
        assert.equal((await advance(tx, worker, { limit: JOBS })).jobs.length, JOBS);
      });

      assert.deepEqual(
        { ...claim, calls: claim.calls <= 100 },
        { inserted: 1, updated: 0, deleted: JOBS, calls: true },
        `${claim.calls} functions were called to claim`,
      );
    });
  },
  { pooler: false },
);
