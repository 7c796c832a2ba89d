/** Every way in which a job becomes ready rings the Edge worker, once. pg_net and Vault are stubs. */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { arm, posts, reset, SECRETS } from "./edge-rig.ts";
import { type Rig, rigOf } from "./rig.ts";
import { installNet, installVault } from "./supabase-stubs.ts";

describeOnEachServer("the armed bell of the Edge worker", (context) => {
  before(async () => {
    await installNet(context.db);
    await installVault(context.db, SECRETS);
    await context.db
      .sql`select public.enqueue_job(name) from unnest(array['work', 'other']) as name`;
  });
  beforeEach(() => reset(context.db));

  const WAYS: readonly {
    what: string;
    act: (rig: Rig) => Promise<unknown>;
    before?: (rig: Rig) => Promise<unknown>;
  }[] = [
    {
      what: "enqueue_jobs",
      act: ({ sql }) => sql`select public.enqueue_jobs('[{"type": "work"}, {"type": "other"}]')`,
    },
    {
      what: "enqueue_alike",
      act: ({ sql }) => sql`select queue.enqueue_alike('work', '[1, 2, 3]')`,
    },
    {
      what: "a parent that completed",
      before: async ({ enqueue, sql }) => {
        const parent = await enqueue("other");
        await enqueue("work", { dependsOn: [parent] });
        await sql`select public.get_next_job('w', array['other'])`;
      },
      act: ({ sql }) =>
        sql`select public.complete_job(max(id)) from queue.jobs where depends_on is null`,
    },
    {
      what: "retry_job",
      before: ({ enqueue, inMs }) =>
        inMs(60_000).then((at) => enqueue("work", { scheduledAt: at })),
      act: ({ sql }) => sql`select public.retry_job(max(id)) from queue.jobs`,
    },
    {
      what: "redrive_jobs",
      before: ({ bury }) => bury("work"),
      act: ({ sql }) => sql`select public.redrive_jobs(p_type => 'work')`,
    },
    {
      what: "maintenance that finds due jobs",
      before: async ({ enqueue, inMs }) => {
        await enqueue("work", { scheduledAt: await inMs(60_000) });
        await context.db.advance(61_000);
      },
      act: ({ sql }) => sql`select queue.maintain()`,
    },
    {
      what: "maintenance that finds a lost lease",
      before: async ({ start }) => {
        await start("work", {}, { seconds: 1 });
        await context.db.advance(2_000);
      },
      act: ({ sql }) => sql`select public.cleanup_stuck_jobs()`,
    },
    {
      what: "a job that its worker released",
      before: ({ start }) => start("work"),
      act: ({ sql }) =>
        sql`select queue.settle_one(lease.id, lease.job_ids[1], 'released') from queue.leases as lease`,
    },
    {
      what: "resume_queue",
      before: async ({ enqueue, sql }) => {
        await sql`select public.pause_queue('work')`;
        await enqueue("work");
      },
      act: ({ sql }) => sql`select public.resume_queue('work')`,
    },
  ];
  for (const { what, act, before: prepare } of WAYS) {
    it(`is rung once by ${what}`, async () => {
      const rig = rigOf(context.db);
      await prepare?.(rig);
      await arm(rig.sql);

      await act(rig);

      assert.equal(await posts(context.db), 1);
    });
  }
});
