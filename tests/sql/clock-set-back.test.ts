/** The database's clock is set back by an hour, or forward: everything goes on at once, and what is told stays in order. */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { maintainAll } from "../support/maintenance.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

describeOnEachServer("when the clock was set back by an hour", (context) => {
  let worker = 0;
  before(async () => {
    worker = await registerWorker(context.db.sql, "clock");
  });
  beforeEach(() => rigOf(context.db).clear());

  const alive = () => context.db.sql`select queue.heartbeat_worker(${worker})`;
  const setBack = (ms = HOUR) => context.db.advance(-ms);

  async function expiry(id: string): Promise<number> {
    const [lease] = await context.db.sql<{ seconds: number }[]>`
      select extract(epoch from expires_at - queue.clock())::float as seconds
      from queue.leases where ${id}::bigint = any (job_ids)`;
    return only(lease).seconds;
  }

  it("claims look at everything as often as before", async () => {
    const { enqueue } = rigOf(context.db);
    for (let n = 0; n < 5; n += 1) await enqueue("mark", { priority: "low" });
    const { mark } = await advance(context.db.sql, worker, { limit: 1, types: ["mark"] });
    const wish = { ...(mark as object), sweep: true };
    await advance(context.db.sql, worker, { limit: 1, types: ["mark"], mark: wish });
    const urgent = await enqueue("mark", { priority: "critical" });
    await setBack();

    const { jobs } = await advance(context.db.sql, worker, {
      limit: 1,
      types: ["mark"],
      mark: wish,
    });

    assert.equal(jobs[0]?.[1], urgent);
  });

  it("the leases of a worker that died run out at most a lease later", async () => {
    const { start, status } = rigOf(context.db);
    const job = await start("dead", {}, { worker: "clock", seconds: 30 });
    await alive();
    await setBack();

    await maintainAll(context.db.sql);
    const left = await expiry(job.id);
    await context.db.advance(31_000);
    await maintainAll(context.db.sql);

    assert.ok(left > 20 && left <= 31, `${left} s`);
    assert.equal(await status(job.id), "pending");
  });

  it("so do those that had run out already, and those that were extended for an hour", async () => {
    const { start, status, sql } = rigOf(context.db);
    const extended = await start("long", {}, { worker: "clock", seconds: 30 });
    await context.db.advance(HOUR);
    await alive();
    await sql`select queue.extend_leases(${worker}, ${[extended.lease_id]}, 30000)`;
    const expired = await start("expired", {}, { worker: "clock", seconds: 5 });
    await context.db.advance(6000);
    await alive();
    await setBack();

    await maintainAll(sql);
    const [left, first] = [await expiry(extended.id), await status(expired.id)];
    await context.db.advance(31_000);
    await maintainAll(sql);

    assert.ok(left > 20 && left <= 31, `${left} s`);
    assert.deepEqual([first, await status(extended.id)], ["pending", "pending"]);
  });

  it("those of a worker that lives stay with it, and are not longer than before once it is dead", async () => {
    const { start, status, sql } = rigOf(context.db);
    const job = await start("alive", {}, { worker: "clock", seconds: 30 });
    await alive();
    await setBack();
    for (let n = 0; n < 6; n += 1) {
      await context.db.advance(10_000);
      await sql`select queue.extend_leases(${worker}, ${[job.lease_id]}, 30000)`;
      // Its sign of life may come before anybody's maintenance.
      if (n === 0) await alive();
      await maintainAll(sql);
      assert.equal(await status(job.id), "processing");
    }
    await context.db.advance(31_000);
    await maintainAll(sql);

    assert.equal(await status(job.id), "pending");
  });

  it("a lease that was claimed since then has the time that it was given", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await alive();
    await setBack();
    const ids = { short: await enqueue("short"), long: await enqueue("long") };
    await advance(sql, worker, { limit: 1, types: ["short"], leaseMs: 30_000 });
    await advance(sql, worker, { limit: 1, types: ["long"], leaseMs: 2 * HOUR });

    await maintainAll(sql);

    const [left, most] = [await expiry(ids.short), await expiry(ids.long)];
    assert.ok(left > 25 && left <= 30, `${left} s`);
    assert.ok(most > HOUR / 1000 - 30 && most <= 7200, `${most} s`);
  });

  it("what somebody holds is seen to by the next call", async (t) => {
    const { start, status, sql } = rigOf(context.db);
    const job = await start("held", {}, { worker: "clock", seconds: 30 });
    await alive();
    await setBack();
    const holder = context.db.connect({ max: 1 });
    t.after(() => holder.end());
    await holder`begin`;
    await holder`select from queue.leases where id = ${job.lease_id} for update`;

    const { failed } = await maintainAll(sql);
    await holder`rollback`;
    await maintainAll(sql);
    await context.db.advance(31_000);
    await maintainAll(sql);

    assert.deepEqual(failed, []);
    assert.equal(await status(job.id), "pending");
  });

  it("a retry comes as long after its failure as it should, and a job for a time of day at its time", async () => {
    const { start, fail, enqueue, inMs, status, sql } = rigOf(context.db);
    await alive();
    const retried = await start("retried");
    await fail(retried, "boom", { after: 20 });
    const planned = await enqueue("planned", { scheduledAt: await inMs(20_000) });
    await setBack();

    await maintainAll(sql);
    await context.db.advance(21_000);
    await maintainAll(sql);

    assert.deepEqual([await status(retried.id), await status(planned)], ["pending", "scheduled"]);
  });

  it("a worker that died is not taken for alive", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await sql`truncate queue.workers`;
    worker = await registerWorker(sql, "gone");
    await enqueue("alone");
    await setBack();
    await maintainAll(sql);
    await context.db.advance(61_000);

    const [row] = await sql<{ codes: string[] }[]>`
      select array(select jsonb_array_elements(public.queue_health() -> 'problems') ->> 'code') as codes`;

    assert.ok(row?.codes.includes("no_live_worker"), row?.codes.join());
  });

  it("a minute of a quota begins anew", async () => {
    const { sql } = rigOf(context.db);
    await sql`update queue.settings set user_jobs_per_minute = 1`;
    await sql`select queue.hold_quota('seven', 1)`;
    await sql`select queue.charge_quota('seven', '{1}')`;
    await setBack();

    await sql`select queue.charge_quota('seven', '{2}')`;

    await assert.rejects(sql`select queue.charge_quota('seven', '{3}')`, { code: "MR016" });
    await sql`update queue.settings set user_jobs_per_minute = null`;
  });

  it("partitions are begun and dropped as many days later as before", async () => {
    const rig = rigOf(context.db);
    const { enqueue, sql } = rig;
    await context.db.advance(30 * DAY);
    await enqueue("first");
    await maintainAll(sql);
    await context.db.advance(DAY + 1000);
    await maintainAll(sql);
    const id = await enqueue("second");
    await maintainAll(sql);
    await setBack(20 * DAY);
    await maintainAll(sql);
    await context.db.advance(DAY + 1000);
    await maintainAll(sql);

    const later = await enqueue("third");

    assert.ok(Number(later) - Number(id) > 1000, `${id} ${later}`);
    await context.db.advance(20 * DAY);
  });

  it("history is in order, of what was enqueued, claimed and ended on both sides", async () => {
    const { complete, enqueue, take, settle, sql } = rigOf(context.db);
    const id = await enqueue("ordered");
    await setBack();
    await settle(await take("ordered"), { outcome: "released" });
    await setBack(1000);
    await complete(await take("ordered"));

    const steps = await sql<{ at: Date; to_status: string }[]>`
      select at, to_status from public.job_status_history where job_id = ${id} order by seq, part`;

    assert.deepEqual(
      steps.map(({ to_status }) => to_status),
      ["pending", "processing", "pending", "processing", "completed"],
    );
    const times = steps.map(({ at }) => at.getTime());
    assert.deepEqual(times, times.toSorted());
  });
});

describeOnEachServer(
  "a claim that has looked at the clock just before a job was enqueued",
  (context) => {
    it("takes it, and not before it was enqueued", async () => {
      const { sql, superSql } = context.db;
      const worker = await registerWorker(sql, "quick");
      await superSql.unsafe(`
      create or replace function queue.clock() returns timestamptz
      language plpgsql volatile parallel safe security definer set search_path = pg_catalog, pg_temp
      as $clock$
      declare
        v_now timestamptz := pg_catalog.clock_timestamp();
      begin
        if current_setting('test.is_slow', true) = 'on' then
          perform set_config('test.is_slow', 'off', true);
          perform pg_sleep(0.002);
          perform public.enqueue_job('late');
        end if;
        return v_now;
      end;
      $clock$`);

      const jobs = await sql.begin(async (tx) => {
        await tx`select set_config('test.is_slow', 'on', true)`;
        await tx`select queue.advance(${worker}, p_limit => 1)`;
        return tx<{ is_in_order: boolean }[]>`
        select lease.claimed_at >= job.created_at as is_in_order
        from queue.leases as lease, queue.jobs as job where job.id = any (lease.job_ids)`;
      });

      assert.deepEqual(
        jobs.map(({ is_in_order }) => is_in_order),
        [true],
      );
    });
  },
);

describeOnEachServer("when the clock was set forward by an hour", (context) => {
  it("every job that a live worker extends in time stays with it, and all others run again", async () => {
    const { start, complete, status, sql } = rigOf(context.db);
    const worker = await registerWorker(sql, "clock");
    const kept = await start("kept", {}, { worker: "clock", seconds: 30 });
    const lost = await start("lost", {}, { worker: "clock", seconds: 30 });
    await context.db.advance(HOUR);

    await sql`select queue.extend_leases(${worker}, ${[kept.lease_id]}, 30000)`;
    await maintainAll(sql);

    assert.deepEqual([await status(kept.id), await status(lost.id)], ["processing", "pending"]);
    assert.equal(await complete(kept), true);
    assert.equal(await complete(lost), false);
  });
});
