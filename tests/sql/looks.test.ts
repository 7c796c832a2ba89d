/** What comes due is looked for by time. Such a look does not pass each time what an old snapshot keeps, or what can't be had yet. */
import assert from "node:assert/strict";
import { after, before, beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { openPlanRecorder, type PlanRecorder } from "./plan-recorder.ts";
import { only, rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

const MANY = 20_000;

describeOnEachServer(
  "looks by time",
  (context) => {
    let plans: PlanRecorder & AsyncDisposable;
    let worker = 0;
    before(async () => {
      plans = await openPlanRecorder(context.db);
      worker = await registerWorker(context.db.sql, "worker");
    });
    after(() => plans[Symbol.asyncDispose]());
    beforeEach(() => rigOf(context.db).clear());

    async function typeId(name: string): Promise<number> {
      const [row] = await context.db.sql<{ id: number }[]>`select queue.intern_type(${name}) as id`;
      return only(row).id;
    }

    /** The marks of looks that read much as they are now, and as if each had been made just now. */
    async function marks(): Promise<unknown[]> {
      const rows = await context.db.sql`
        select pg_sequence_last_value(name::regclass) is not null as is_set
        from unnest('{queue.due_mark,queue.expiry_mark,queue.arrivals_mark}'::text[]) as name`;
      return rows.map(({ is_set }) => is_set);
    }
    const JUST_NOW = `setval('queue.due_mark', queue.epoch_ms(queue.clock()) * 1000),
      setval('queue.expiry_mark', queue.epoch_ms(queue.clock()) * 1000), setval('queue.arrivals_mark', queue.epoch_ms(queue.clock()))`;

    it("what fell due, ran out or ended is not passed again and again, though an old snapshot keeps it", async (t) => {
      const { sql, start } = rigOf(context.db);
      const idle = `queue.advance(${worker}, p_limit => 10, p_type_ids => array[${await typeId("idle")}])`;
      const ends = [await start("ends"), await start("ends"), await start("ends")];
      const end = (n: number) =>
        `public.complete_job(${only(ends[n]).id}, null, ${only(ends[n]).lease_id})`;
      await plans.record(`select ${idle}, ${end(0)}`);
      const holder = context.db.connect({ max: 1 });
      t.after(() => holder.end());
      await holder`begin isolation level repeatable read`;
      await holder`select from queue.settings`;
      await sql`
        insert into queue.scheduled (id, at, queue_id, lane, type_id, priority)
        select 800000000 + n, queue.clock(), 1, 0, 1, 2 from generate_series(1, ${MANY}) as n`;
      await sql`select queue.promote_due() from generate_series(1, ${MANY / 1000})`;
      await sql`truncate queue.ready`;
      await sql`
        insert into queue.leases (id, claimed_at, expires_at, worker_id, crashes, job_ids, attempts)
        select 3000000000 + n, queue.clock(), queue.clock() - interval '1 second', 0, 0, array[800000000 + n], '{1}'
        from generate_series(1, ${MANY}) as n`;
      await sql`delete from queue.leases where job_ids[1] > 800000000`;
      await sql`insert into queue.dependencies select 800000000 + n, 900000000 + n, false, false from generate_series(1, ${MANY}) as n`;
      await sql`insert into queue.cancellations select 800000000 + n, queue.clock(), 'x' from generate_series(1, ${MANY}) as n`;
      await sql`delete from queue.dependencies`;
      await sql`delete from queue.cancellations`;
      await sql`select setval('queue.due_mark', 0, false), setval('queue.expiry_mark', 0, false)`;

      const dear = await plans.record(`select ${idle}`);
      const noted = await marks();
      const cheap = await plans.record(`select ${JUST_NOW}, ${idle}`);
      const ended = await plans.record(`select ${end(1)}`);
      await holder`rollback`;

      const pages = [dear, cheap, ended].map(({ buffers }) => buffers);
      assert.ok(dear.buffers > MANY / 50, `${pages}: nothing was in the way`);
      assert.deepEqual(noted.slice(0, 2), [true, true]);
      assert.ok(cheap.buffers <= 150, `${pages}`);
      assert.equal(ended.answer, true);
      assert.ok(ended.buffers <= 150, `${pages}`);
    });

    it("what has come due and expired since such a look is found at once", async () => {
      const { enqueue, inMs, sql, take } = rigOf(context.db);
      await enqueue("late", { scheduledAt: await inMs(1_000) });
      const lost = await enqueue("lost");
      await take("lost", { seconds: 1 });
      await sql`select setval('queue.due_mark', queue.epoch_ms(queue.clock()) * 1000),
        setval('queue.expiry_mark', queue.epoch_ms(queue.clock()) * 1000)`;

      await context.db.advance(1_100);
      const early = await advance(sql, worker, { limit: 5, types: ["late", "lost"] });
      await sql`select queue.maintain()`;
      const then = await advance(sql, worker, { limit: 5, types: ["late", "lost"] });

      assert.equal(early.jobs.length, 1);
      assert.deepEqual(
        then.jobs.map(([, id]) => id),
        [lost],
      );
    });

    it("jobs whose type an open transaction is making are not looked through by each claim", async (t) => {
      const { sql, enqueue } = rigOf(context.db);
      const idle = `queue.advance(${worker}, p_limit => 10, p_type_ids => array[${await typeId("idle")}])`;
      const maker = context.db.connect({ max: 1 });
      t.after(() => maker.end());
      await maker`begin`;
      await maker`select public.enqueue_job('held')`;
      await plans.record(`select ${idle}`);
      await sql`select queue.enqueue_alike('held', (select jsonb_agg(n) from generate_series(1, ${MANY}) as n))`;
      await sql`select setval('queue.arrivals_mark', 1, false)`;

      const dear = await plans.record(`select ${idle}`);
      const noted = await marks();
      const cheap = await plans.record(`select ${JUST_NOW}, ${idle}`);
      await maker`commit`;
      await context.db.advance(1_000);
      await sql`select queue.maintain() from generate_series(1, 3)`;
      const [row] = await sql<{ n: number }[]>`
        select count(*)::integer as n from queue.ready join queue.types on types.id = ready.type_id where types.name = 'held'`;
      await sql`delete from queue.arrivals`;

      assert.ok(dear.buffers > MANY / 100, `${dear.buffers} pages: nothing was in the way`);
      assert.deepEqual(noted.slice(2), [true]);
      assert.ok(cheap.buffers <= 600, `${cheap.buffers} pages`);
      assert.ok(only(row).n >= 1001, `${only(row).n} were adopted`);
      await enqueue("held");
    });
  },
  { pooler: false },
);
