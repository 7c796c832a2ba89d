/**
 * A queue that is all but empty while an old snapshot keeps what has been claimed: claims pass it now and then, and not each time. What
 * comes back to an old place meanwhile is found at once.
 */
import assert from "node:assert/strict";
import { after, before, beforeEach, it } from "node:test";
import { type ClaimedColumns, toRows } from "../../src/db/claimed-jobs.ts";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { openPlanRecorder, type PlanRecorder, type Recording } from "./plan-recorder.ts";
import { only, rigOf } from "./rig.ts";
import { registerWorker } from "./worker-calls.ts";

const MANY = 8_000;

describeOnEachServer(
  "a queue that is all but empty under an old snapshot",
  (context) => {
    let plans: PlanRecorder & AsyncDisposable;
    let worker = 0;
    let type = 0;
    let holder: TestSql;
    before(async () => {
      plans = await openPlanRecorder(context.db);
      worker = await registerWorker(context.db.sql, "worker");
      const [row] = await context.db.sql<{ id: number }[]>`select queue.intern_type('drip') as id`;
      type = only(row).id;
      holder = context.db.connect({ max: 1 });
    });
    after(async () => {
      await holder.end();
      await plans[Symbol.asyncDispose]();
    });
    beforeEach(async () => {
      await holder`rollback`;
      await rigOf(context.db).clear();
      await context.db.sql`truncate queue.detours`;
    });

    function claim(limit: number, mark: unknown = null): Promise<Recording> {
      return plans.record(`select queue.advance(${worker}, p_limit => ${limit},
        p_type_ids => array[${type}], p_mark => ${mark === null ? "null" : `'${JSON.stringify(mark)}'`})`);
    }

    function ids({ answer }: Recording): string[] {
      const { jobs } = answer as { jobs: ClaimedColumns | null };
      return jobs ? toRows(jobs).map(([, id]) => id) : [];
    }

    /** Very many tokens are claimed, and their index entries stay: they lie in the table in no order, so each costs a page. */
    async function drained(): Promise<void> {
      await holder`begin isolation level repeatable read`;
      await holder`select from queue.settings`;
      await context.db.sql`
        with fact as (
          select * from public.enqueue_jobs((select jsonb_agg(jsonb_build_object('type', 'drip')) from generate_series(1, ${MANY})))
        ),
        gone as (select count(*) from fact)
        select from gone`;
      await context.db.sql`
        with token as (delete from queue.ready returning *)
        insert into queue.ready select * from token order by random()`;
      await context.db.sql`delete from queue.ready`;
      await context.db.advance(11_000);
    }

    /** As above, and a look has found it out; what it remembered holds for ten seconds. */
    async function passed(): Promise<Recording> {
      await drained();
      const dear = await claim(10);
      const rows = await context.db
        .sql`update queue.detours set at = queue.clock(), pause_ms = 10000 returning 1`;
      assert.equal(rows.length, 1, "it was remembered");
      return dear;
    }

    it("a claim passes it now and then, and not each time, and so does a worker that goes to sleep", async () => {
      const { enqueue } = rigOf(context.db);
      for (let warm = 0; warm < 2; warm += 1) {
        await enqueue("drip");
        await claim(10);
      }
      await plans.record(`select queue.arm_bells(${worker}, null, array[${type}])`);
      const dear = await passed();

      assert.ok(dear.buffers > 1000, `${dear.buffers} pages: nothing was in the way`);
      // Twice: a plan that has to be made anew, as after autovacuum, reads as much.
      const pages: number[][] = [];
      for (let round = 0; round < 2; round += 1) {
        const none = await claim(10);
        const armed = await plans.record(`select queue.arm_bells(${worker}, null, array[${type}])`);
        const job = await enqueue("drip");
        const one = await claim(10);
        const mark = { q: 1, p: 2, l: 0, at: await context.db.now(), id: 0 };
        const beyond = await claim(10, mark);
        assert.deepEqual([none, one, beyond].map(ids), [[], [job], []]);
        pages.push([none, armed, one, beyond].map(({ buffers }) => buffers));
      }
      const [first = [], second = []] = pages;
      const least = first.map((count, at) => Math.min(count, second[at] ?? count));
      assert.ok(Math.max(...least) <= 500, `${first} and ${second} pages`);
    });

    it("what comes meanwhile is found at once and in its order, in other queues and priorities too", async () => {
      const { enqueue, inMs } = rigOf(context.db);
      await passed();
      const low = await enqueue("drip", { priority: "low" });
      const due = await enqueue("drip", { scheduledAt: await inMs(100) });
      const elsewhere = await enqueue("drip", { queue: "elsewhere" });
      const urgent = await enqueue("drip", { priority: "critical", tenant: "acme" });
      await context.db.advance(200);

      const found = ids(await claim(10));

      assert.deepEqual(found[0], urgent);
      assert.deepEqual(found.slice(1, 3).toSorted(), [due, elsewhere].toSorted());
      assert.deepEqual(found[3], low);
    });

    it("what comes back to its old place is found at once", async () => {
      const { enqueue, settle, sql, start } = rigOf(context.db);
      const released = await start("drip");
      const lost = await start("drip", {}, { seconds: 20 });
      await passed();

      await settle(released, { outcome: "released" });
      const first = ids(await claim(10));
      await context.db.advance(10_000);
      await sql`update queue.detours set at = queue.clock(), pause_ms = 10000`;
      await sql`select queue.rescue()`;
      const second = ids(await claim(10));
      await passed();
      await sql`select public.pause_queue('drip')`;
      const paused = await enqueue("drip");
      await context.db.advance(5_000);
      const third = ids(await claim(10));
      await sql`select public.resume_queue('drip')`;
      const fourth = ids(await claim(10));

      assert.deepEqual([first, second], [[released.id], [lost.id]]);
      assert.deepEqual([third, fourth], [[], [paused]]);
    });

    it("what does not fit into an answer comes with the next claim", async () => {
      const { enqueue } = rigOf(context.db);
      await drained();
      const made: string[] = [];
      for (let n = 0; n < 6; n += 1) {
        made.push(await enqueue("drip", { payload: "x".repeat(1_000_000) }));
      }
      await context.db.advance(5_000);

      const [first, second] = [ids(await claim(10)), ids(await claim(10))];

      assert.equal(first.length, 4);
      assert.deepEqual([...first, ...second], made);
    });
  },
  { pooler: false },
);
