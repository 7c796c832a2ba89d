import assert from "node:assert/strict";
import { it } from "node:test";
import { defineJob, implement, type WorkerEvent } from "../../src/index.ts";
import type { TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { gate, withWorker } from "./rig.ts";

const many = defineJob<{ n: number }, { twice: number }>("many");
const COUNT = 600;

describeOnEachServer("many short jobs", (context) => {
  const inputs = Array.from({ length: COUNT }, (_, n) => ({ n }));

  it("are completed by whole leases, each with its own result", async () => {
    const handler = implement(many, async ({ input }) => ({ twice: input.n * 2 }));

    await withWorker(context.db, [handler], async ({ queue, seen }) => {
      await queue.enqueueMany(many, inputs);

      assert.equal((await seen("completed", COUNT)).length, COUNT);

      assert.equal(await wrongResults(context.db), 0);
      assert.ok((await leasesOf(context.db)) < COUNT / 4, "few leases");
    });
  });

  it("are settled one by one where some of them end otherwise", async () => {
    const handler = implement(many, async ({ input }) => {
      if (input.n % 50 === 7) throw new Error("seventh");
      return { twice: input.n * 2 };
    });

    await withWorker(context.db, [handler], async ({ queue, events }) => {
      await queue.enqueueMany(many, inputs, { maxRetries: 0 });

      await eventually(() => countOf(events, "completed") + countOf(events, "failed") >= COUNT);
      assert.equal(countOf(events, "completed"), COUNT - 12);
      assert.equal(countOf(events, "failed"), 12);
      assert.equal(await wrongResults(context.db), 0);
    });
  });

  it("are completed soon although one of their lease takes its time", async () => {
    const goOn = gate();
    const handler = implement(many, async ({ input }) => {
      if (input.n === 199) await goOn.opened;
      return { twice: input.n * 2 };
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen, events }) => {
        await queue.enqueueMany(many, inputs.slice(0, 200));

        await eventually(() => countOf(events, "completed") >= 199);
        goOn.open();
        await seen("completed", 200);
        assert.equal(await wrongResults(context.db), 0);
      },
      { concurrency: 200, prefetch: 0, leaseMs: 30_000 },
    );
  });

  it("are all completed although somebody else completed one of them meanwhile", async () => {
    const started = gate();
    const goOn = gate();
    const handler = implement(many, async ({ input }) => {
      started.open();
      await goOn.opened;
      return { twice: input.n * 2 };
    });

    await withWorker(
      context.db,
      [handler],
      async ({ queue, seen }) => {
        const jobs = await queue.enqueueMany(many, inputs.slice(0, 200));
        await started.opened;
        await eventually(async () => (await leasedJobs(context.db)) === 200);
        const last = String(jobs.at(-1)?.id);
        await context.db
          .sql`select public.complete_job(${last}, '{"twice": 398, "by": "another"}')`;
        goOn.open();

        await seen("completed", 200);
        const [row] = await context.db.sql<{ runs: number; by: string }[]>`
          select (select count(*) from queue.runs where to_status = 'completed' and job_id = any (${jobs.map(({ id }) => id)}))::integer as runs,
            result ->> 'by' as by from public.job_queue where id = ${last}`;
        assert.deepEqual({ ...row }, { runs: 200, by: "another" });
        assert.equal(await wrongResults(context.db), 0);
      },
      { concurrency: 200, prefetch: 0, leaseMs: 30_000 },
    );
  });
});

function countOf(events: readonly WorkerEvent[], kind: WorkerEvent["kind"]): number {
  return events.filter((event) => event.kind === kind).length;
}

async function wrongResults(db: TestDatabase): Promise<number> {
  const [row] = await db.sql<{ n: number }[]>`
    select count(*)::integer as n from public.job_queue
    where status = 'completed' and (result ->> 'twice')::integer <> (payload ->> 'n')::integer * 2`;
  return row?.n ?? -1;
}

async function leasesOf(db: TestDatabase): Promise<number> {
  const [row] = await db.superSql<{ n: number }[]>`
    select count(distinct lease_id)::integer as n from queue.runs`;
  return row?.n ?? -1;
}

async function leasedJobs(db: TestDatabase): Promise<number> {
  const [row] = await db.superSql<{ n: number }[]>`
    select coalesce(sum(cardinality(job_ids)), 0)::integer as n from queue.leases`;
  return row?.n ?? -1;
}
