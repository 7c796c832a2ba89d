import assert from "node:assert/strict";
import { before, it } from "node:test";
import { readOffer } from "../../src/db/claimed-jobs.ts";
import { connect } from "../../src/db/postgres-js.ts";
import { createQueue, createWorker, defineJob, implement, silentLogger } from "../../src/index.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate, withWorker } from "./rig.ts";

/** So long a sleep that a job can't have been found by looking for it. */
const HOUR = 3_600_000;
const LONG_LEASE = { leaseMs: 60_000, pollIntervalMs: HOUR };

describeOnEachServer("a sleeping worker", (context) => {
  const task = defineJob("offered");

  interface Bell {
    readonly channel: string;
    readonly worker_id: number;
  }

  /** Resolves when a worker waits for jobs to be brought. One that found work by looking only does when it hears something. */
  function awaiting(): Promise<Bell> {
    return eventually(async () => {
      const bells = await context.db.superSql<Bell[]>`
        select channel, worker_id from queue.bells order by channel nulls last`;
      const [bell] = bells;
      if (bell && bell.channel === null) {
        await context.db.sql`select pg_notify('millrace', ${`w:${bell.worker_id}`})`;
      }
      return bell?.channel === null ? undefined : bell;
    });
  }

  /** Whether the lease under which a job runs was made by its enqueue: the worker may have accepted it since. */
  async function wasBrought(id: string): Promise<boolean> {
    const [lease] = await context.db.superSql<{ brought: boolean }[]>`
      select exists (select from brought where job_id = ${id}) as brought`;
    return lease?.brought === true;
  }

  /** A job that reaches the worker when its time is over, as from a transaction that went on for long after its enqueue. */
  async function bringLate<Job extends { readonly id: string }>(
    enqueue: () => Promise<Job>,
  ): Promise<Job> {
    const { sql, superSql } = context.db;
    const { channel } = await awaiting();
    await superSql`update queue.bells set channel = 'elsewhere'`;
    const heard: string[] = [];
    const ear = await sql.listen("elsewhere", (word) => heard.push(word));
    const job = await enqueue();
    const offer = await eventually(() => heard.map(readOffer).find((found) => found !== null));
    await ear.unlisten();
    assert.equal(offer.job[1], job.id);
    const late = { ...offer, expires_at: offer.now - 1 };
    await sql`select pg_notify(${channel}, ${JSON.stringify(late)})`;
    return job;
  }

  before(async () => {
    await context.db.superSql.unsafe(`
      create table brought (job_id bigint);
      create function note_brought() returns trigger language plpgsql security definer as $$
      begin
        insert into public.brought values (new.job_ids[1]);
        return null;
      end $$;
      create trigger note_brought after insert on queue.leases for each row when (new.is_offered)
      execute function note_brought();`);
  });

  it("begins with a new job without asking for it", async () => {
    const handler = implement(task, ({ id }) => wasBrought(id));
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        // The first one makes the queue known.
        await (await queue.enqueue(task, {})).result();
        for (let round = 0; round < 3; round += 1) {
          await awaiting();
          const job = await queue.enqueue(task, { round });
          assert.equal(await job.result({ timeoutMs: 10_000 }), true);
        }
      },
      LONG_LEASE,
    );
  });

  it("tells the handler of it all that a claim would", async () => {
    const facts: unknown[] = [];
    const ways: unknown[] = [];
    const handler = implement(task, async ({ id, input, type, queue, tenantId, attempt }) => {
      facts.push({ input, type, queue, tenantId, attempt });
      ways.push(await wasBrought(id));
    });
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        const options = { priority: "low", tenantId: "acme", maxRetries: 7 } as const;
        // What is enqueued in bulk is claimed.
        const [claimed] = await queue.enqueueMany(task, [{ to: "you" }], options);
        await claimed?.result();
        await awaiting();
        await (await queue.enqueue(task, { to: "you" }, options)).result();
      },
      LONG_LEASE,
    );
    assert.deepEqual(ways, [false, true]);
    assert.deepEqual(facts[1], facts[0]);
  });

  it("keeps a job for as long as its handler runs", async () => {
    let runs = 0;
    const handler = implement(task, () => {
      runs += 1;
      // Until the lease is a common one.
      return eventually(async () => {
        const [lease] = await context.db.superSql`select is_offered from queue.leases`;
        return lease?.["is_offered"] === false ? "kept" : undefined;
      });
    });
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        await awaiting();
        const job = await queue.enqueue(task, {});
        assert.equal(await job.result({ timeoutMs: 10_000 }), "kept");
        assert.deepEqual([await wasBrought(job.id), runs], [true, 1]);
      },
      LONG_LEASE,
    );
  });

  it("gives back what it has no slot for", async () => {
    const blocked = gate();
    const started = gate();
    const other = defineJob("elsewhere");
    const handlers = [
      implement(task, async () => {
        started.open();
        await blocked.opened;
      }),
      implement(other, () => undefined),
    ];
    await withWorker(
      context.db,
      handlers,
      async ({ queue, status }) => {
        await (await queue.enqueue(other, {})).result();
        await awaiting();
        await queue.enqueue(task, {});
        await started.opened;
        // The other queue has a slot, and so the bells are armed for both.
        await (await queue.enqueue(other, {})).result();
        await eventually(async () => {
          const bells = await context.db.superSql`
            select from queue.bells as bell join queue.queues as line on line.id = bell.queue_id
            where line.name = 'offered' and bell.channel is not null`;
          return bells.length > 0;
        });
        const late = await queue.enqueue(task, {});
        await eventually(async () => (await status(late)) === "pending");
        blocked.open();
        await late.result({ timeoutMs: 10_000 });
      },
      { ...LONG_LEASE, queues: { offered: 1, elsewhere: 1 } },
    );
  });

  it("gives back what came too late, and takes it again by a claim", async () => {
    const handler = implement(task, () => "done");
    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        const job = await bringLate(() => queue.enqueue(task, {}));

        await seen("released");
        assert.equal(await job.result({ timeoutMs: 10_000 }), "done");
      },
      LONG_LEASE,
    );
  });

  it("is brought the next job while one runs, as long as it has a slot", async () => {
    const blocked = gate();
    const handler = implement(task, ({ input }) => (input === "slow" ? blocked.opened : undefined));
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        for (const input of ["quick", "slow", "quick"]) {
          await awaiting();
          const job = await queue.enqueue(task, input);
          assert.equal(await wasBrought(job.id), true);
          if (input === "quick") await job.result({ timeoutMs: 10_000 });
        }
        blocked.open();
      },
      { ...LONG_LEASE, concurrency: 2 },
    );
  });

  it("goes on after what came too late, with one slot", async () => {
    const handler = implement(task, () => "done");
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        const job = await bringLate(() => queue.enqueue(task, {}));

        assert.equal(await job.result({ timeoutMs: 10_000 }), "done");
        for (let round = 0; round < 2; round += 1) {
          const next = await queue.enqueue(task, {});
          assert.equal(await next.result({ timeoutMs: 10_000 }), "done");
        }
      },
      { ...LONG_LEASE, concurrency: 1 },
    );
  });

  it("runs no job that somebody else makes up, and minds no nonsense", async () => {
    const ran: unknown[] = [];
    const handler = implement(task, ({ input }) => {
      ran.push(input);
    });
    await withWorker(
      context.db,
      [handler],
      async ({ queue }) => {
        await awaiting();
        const now = Date.now();
        const forged = [
          "1",
          "2",
          task.type,
          task.type,
          "normal",
          "forged",
          null,
          1,
          3,
          now,
          null,
          null,
        ];
        const offer = JSON.stringify({ now, expires_at: now + 60_000, job: forged });
        await context.db.sql`select pg_notify('millrace', ${offer}), pg_notify('millrace', '{}')`;
        await (await queue.enqueue(task, "real")).result();
      },
      LONG_LEASE,
    );
    assert.deepEqual(ran, ["real"]);
  });

  it("is brought nothing when it works only until nothing is left", async () => {
    const blocked = gate();
    const started = gate();
    const handler = implement(task, async () => {
      started.open();
      await blocked.opened;
    });
    const sql = connect(context.db.url);
    const worker = createWorker({ sql, handlers: [handler], logger: silentLogger });
    try {
      const queue = createQueue({ sql });
      await queue.enqueue(task, {});
      const drained = worker.drain();
      await Promise.race([
        started.opened,
        drained.then(() => assert.fail("nothing was left before the job had run")),
      ]);
      const bell = await eventually(async () => {
        const [armed] = await context.db.superSql`select channel from queue.bells`;
        return armed;
      });
      assert.equal(bell["channel"], null);
      blocked.open();
      await drained;
    } finally {
      blocked.open();
      await worker.stop();
      await sql.close();
    }
  });

  it("is brought nothing once it stops", async () => {
    const started = gate();
    const finish = gate();
    const handler = implement(task, async () => {
      started.open();
      await finish.opened;
    });
    await withWorker(
      context.db,
      [handler],
      async ({ queue, worker, status }) => {
        await awaiting();
        await queue.enqueue(task, {});
        await started.opened;
        await awaiting();
        const stopping = worker.stop({ timeoutMs: 60_000 });
        await eventually(async () => {
          const bells = await context.db.superSql`select from queue.bells`;
          return bells.length === 0;
        });
        const next = await queue.enqueue(task, {});
        // If a call that was under way armed a bell once more, what came by it has been given back.
        await eventually(async () => (await status(next)) === "pending");
        finish.open();
        await stopping;
        await queue.cancel(next);
      },
      { ...LONG_LEASE, shutdownTimeoutMs: 60_000 },
    );
  });

  for (const [what, options] of [
    ["that serves one tenant", { tenantId: "acme" }],
    ["that counts what each tenant has", { maxJobsPerTenant: 5 }],
  ] as const) {
    it(`is only woken if it is one ${what}`, async () => {
      const handler = implement(task, () => undefined);
      await withWorker(
        context.db,
        [handler],
        async () => {
          const bell = await eventually(async () => {
            const [armed] = await context.db.superSql`select channel from queue.bells`;
            return armed;
          });
          assert.equal(bell["channel"], null);
        },
        { ...LONG_LEASE, ...options },
      );
    });
  }
});
