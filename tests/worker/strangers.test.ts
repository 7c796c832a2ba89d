import assert from "node:assert/strict";
import { before, it } from "node:test";
import { defineJob, implement } from "../../src/index.ts";
import type { TestSql } from "../support/connect.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { aborted, gate, type Rig, withWorker } from "./rig.ts";

const LEASE_MS = 1_000;

/** What somebody else's open transaction holds delays that one job at most. */
describeOnEachServer("beside a stranger's open transaction", (context) => {
  // Housekeeping would hide who does what here.
  before(async () => {
    await context.db.sql`
      create or replace function queue.maintain() returns json language sql as $$ select '{}'::json $$`;
  });

  /** The lease of each job that runs. */
  async function leaseOf(id: string): Promise<string> {
    const [row] = await context.db.sql<{ id: string }[]>`
      select id::text from queue.leases where ${id}::bigint = any (job_ids)`;
    assert.ok(row);
    return row.id;
  }

  async function expiry(id: string): Promise<number> {
    const [row] = await context.db.sql<{ at: Date }[]>`
      select expires_at as at from queue.leases where ${id}::bigint = any (job_ids)`;
    return Number(row?.at ?? 0);
  }

  async function runsOf(ids: readonly string[]): Promise<string[]> {
    const rows = await context.db.sql<{ run: string }[]>`
      select job_id || ' ' || outcome as run from queue.runs where job_id = any (${ids}::bigint[]) order by job_id, lease_id`;
    return rows.map(({ run }) => run);
  }

  /** Opens a transaction that stays open during `work`. */
  async function beside(
    open: (stranger: TestSql) => PromiseLike<unknown>,
    work: (stranger: TestSql) => Promise<void>,
  ): Promise<void> {
    const stranger = context.db.connect({ max: 1 });
    await stranger`begin`;
    await open(stranger);
    await work(stranger);
    await stranger`commit`;
    await stranger.end();
  }

  const count = ({ events }: Rig, kind: string): number =>
    events.filter((event) => event.kind === kind).length;

  it("a request to cancel one job stops none before it is committed, and then that one", async () => {
    const stopped = new Map<string, unknown>();
    const long = implement(defineJob("long", {}), async ({ id, signal }) => {
      await aborted(signal);
      stopped.set(id, (signal.reason as { code?: string }).code);
      throw signal.reason;
    });
    await withWorker(
      context.db,
      [long],
      async (rig) => {
        const jobs = [];
        for (let n = 0; n < 4; n += 1) jobs.push(await rig.queue.enqueue(long.job, {}));
        await rig.seen("started", 4);
        const [wanted, other] = [jobs[0]?.id ?? "", jobs[3]?.id ?? ""];
        const begun = Math.max(await expiry(wanted), await expiry(other));

        await beside(
          (stranger) => stranger`select public.cancel_job(${wanted})`,
          async () => {
            await eventually(async () => (await expiry(other)) > begun + 2 * LEASE_MS);
            await eventually(async () => (await expiry(wanted)) > begun + 2 * LEASE_MS);
            assert.deepEqual([stopped.size, count(rig, "lost")], [0, 0]);
          },
        );

        await rig.seen("cancelled");
        assert.deepEqual([...stopped], [[wanted, "JOB_CANCELLED"]]);
        assert.equal(count(rig, "disconnected"), 0);
      },
      { leaseMs: LEASE_MS, concurrency: 4 },
    );
  });

  it("a notification that a job is to be cancelled stops none of which that is not true", async () => {
    const stopped: string[] = [];
    const long = implement(defineJob("forged", {}), async ({ id, signal }) => {
      await aborted(signal);
      stopped.push(id);
      throw signal.reason;
    });
    await withWorker(
      context.db,
      [long],
      async (rig) => {
        const jobs = [];
        for (let n = 0; n < 3; n += 1) jobs.push((await rig.queue.enqueue(long.job, {})).id);
        await rig.seen("started", 3);
        const [first = "", wanted = "", last = ""] = jobs;

        for (const id of [first, last]) {
          await context.db
            .superSql`select pg_notify('millrace', ${`c:${await leaseOf(id)}:${id}`})`;
        }
        await context.db.sql`select public.cancel_job(${wanted})`;
        await rig.seen("cancelled");

        // Notifications come in the order of their commits.
        assert.deepEqual(stopped, [wanted]);
        assert.equal(count(rig, "lost"), 0);
      },
      { concurrency: 3 },
    );
  });

  it("a lease that stays locked is held for one more lease time at most, and no other is touched", async () => {
    const lost: string[] = [];
    const long = implement(defineJob("held", {}), async ({ id, signal }) => {
      await aborted(signal);
      if ((signal.reason as { code?: string }).code === "LEASE_LOST") lost.push(id);
    });
    await withWorker(
      context.db,
      [long],
      async (rig) => {
        const held = await rig.queue.enqueue(long.job, {});
        await rig.seen("started", 1);
        const lease = await leaseOf(held.id);

        await beside(
          (stranger) => stranger`select from queue.leases where id = ${lease} for update`,
          async () => void (await rig.seen("lost")),
        );

        assert.deepEqual(lost, [held.id]);
        assert.equal(count(rig, "disconnected"), 0);
      },
      { leaseMs: LEASE_MS, concurrency: 2 },
    );
  });

  it("an end whose lease is locked is told later; all others at once, and each once", async () => {
    const finish = gate();
    const quick = implement(defineJob("quick", {}), async ({ input }) => {
      await finish.opened;
      if (input === "bad") throw new Error("bad");
      return input;
    });
    await withWorker(
      context.db,
      [quick],
      async (rig) => {
        const held = await rig.queue.enqueue(quick.job, "held");
        await rig.seen("started", 1);
        const bad = await rig.queue.enqueue(quick.job, "bad", { maxRetries: 0 });
        await rig.seen("started", 2);
        const free = await rig.queue.enqueue(quick.job, "free");
        await rig.seen("started", 3);
        const leases = [await leaseOf(held.id), await leaseOf(bad.id)];

        await beside(
          (stranger) =>
            stranger`select from queue.leases where id = any (${leases}::bigint[]) for update`,
          async () => {
            finish.open();
            assert.equal(await free.result(), "free");
            const late = await rig.queue.enqueue(quick.job, "late");
            assert.equal(await late.result(), "late");
            assert.deepEqual(await runsOf([held.id, bad.id]), []);
          },
        );

        assert.equal(await held.result(), "held");
        await rig.seen("failed");
        assert.deepEqual(await runsOf([held.id, bad.id, free.id]), [
          `${held.id} completed`,
          `${bad.id} failed`,
          `${free.id} completed`,
        ]);
        assert.deepEqual([count(rig, "completed"), count(rig, "failed")], [3, 1]);
        assert.deepEqual([count(rig, "lost"), count(rig, "disconnected")], [0, 0]);
      },
      // Settled one by one: so each job's end is its own.
      { leaseMs: 30_000, concurrency: 4 },
    );
  });

  it("a child whose token is locked waits for the stranger alone, and runs as soon as it is free", async () => {
    const step = implement(defineJob("step", {}), ({ input }) => input);
    const start = gate();
    const parent = implement(defineJob("parent", {}), () => start.opened);
    await withWorker(
      context.db,
      [step, parent],
      async (rig) => {
        const root = await rig.queue.enqueue(parent.job, {});
        const child = await rig.queue.enqueue(step.job, "child", { dependsOn: [root] });
        await rig.seen("started", 1);

        await beside(
          (stranger) =>
            stranger`select public.enqueue_job('step', '"grandchild"', p_depends_on => array[${child.id}::bigint])`,
          async () => {
            start.open();
            await root.result();
            const others = await rig.queue.enqueueMany(step.job, Array(20).fill("other"));
            await Promise.all(others.map((job) => job.result()));
            assert.equal(await rig.status(child), "blocked");
          },
        );

        assert.equal(await child.result(), "child");
        await rig.seen("completed", 23);
        assert.deepEqual([count(rig, "lost"), count(rig, "disconnected")], [0, 0]);
      },
      { leaseMs: LEASE_MS, concurrency: 5 },
    );
  });

  it("a sign of life does not wait for whoever holds the worker's row", async () => {
    const [row] = await context.db.sql<{ id: number }[]>`
      select (queue.register_worker('alive', null, null, null) ->> 'worker')::integer as id`;
    const session = context.db.connect({ max: 1 });
    await session`set lock_timeout = '100ms'`;

    await beside(
      (stranger) => stranger`select from queue.workers where id = ${row?.id ?? 0} for update`,
      async () => {
        const [beat] = await session`
          select queue.heartbeat_worker(${row?.id ?? 0}) as held, queue.heartbeat_worker(-1) as unknown`;
        assert.deepEqual(beat, { held: true, unknown: false });
        await session`select queue.forget_leases(${row?.id ?? 0}, '{}')`;
      },
    );
    await session.end();
  });

  it("the children of a parent with very many all run, though nobody keeps house", async () => {
    const child = implement(defineJob("small", {}), () => undefined);
    const parent = implement(defineJob("big", {}), () => undefined);
    await withWorker(
      context.db,
      [child, parent],
      async (rig) => {
        const start = new Date(Number(await context.db.now()) + 3_600_000);
        const root = await rig.queue.enqueue(parent.job, {}, { at: start });
        await context.db.sql`select count(*) from public.enqueue_jobs((
          select jsonb_agg(jsonb_build_object('type', 'small', 'depends_on', jsonb_build_array(${root.id}::bigint)))
          from generate_series(1, 7000)))`;

        await rig.queue.retry(root);

        await rig.seen("completed", 7_001);
        const [left] = await context.db.sql`
          select (select count(*)::integer from queue.fanouts) as fanouts, (select count(*)::integer from queue.dependencies) as edges`;
        assert.deepEqual(left, { fanouts: 0, edges: 0 });
      },
      { leaseMs: 30_000, concurrency: 50 },
    );
  });
});
