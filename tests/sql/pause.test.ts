import assert from "node:assert/strict";
import { it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, refusal, rigOf } from "./rig.ts";

describeOnEachServer("pause_queue and resume_queue", (context) => {
  async function pause(queue: string, reason: string | null = null): Promise<boolean> {
    const [row] = await context.db.sql<{ changed: boolean }[]>`
      select public.pause_queue(${queue}, ${reason}) as changed`;
    return only(row).changed;
  }

  async function resume(queue: string): Promise<boolean> {
    const [row] = await context.db.sql<{ changed: boolean }[]>`
      select public.resume_queue(${queue}) as changed`;
    return only(row).changed;
  }

  it("nothing is claimed from a paused queue, by whatever way one asks", async () => {
    const { claim, enqueue, sql } = rigOf(context.db);
    await enqueue("p", { queue: "paused", tenant: "acme", priority: "critical" });
    const other = await enqueue("p", { queue: "open", tenant: "acme" });

    await pause("paused");

    const [asked] = await sql`
      select (select array_agg(id) from public.get_next_job('a', array['p'], 10)) as by_type,
        (select array_agg(id) from public.get_next_job('b', null, 10)) as by_all,
        (select array_agg(id) from public.claim_next_job('c', 'acme')) as by_tenant`;
    assert.deepEqual({ ...asked }, { by_type: [other], by_all: null, by_tenant: null });
    await resume("paused");
    assert.equal((await claim("p", { batch: 10 })).length, 1);
  });

  it("running jobs go on, and what comes waits", async () => {
    const { claim, complete, enqueue, start, status } = rigOf(context.db);
    const running = await start("on");
    await pause("on");
    const coming = await enqueue("on");

    assert.equal(await complete(running), true);
    assert.deepEqual([...(await claim("on"))], []);
    assert.equal(await status(coming), "pending");
    await resume("on");

    assert.equal((await claim("on"))[0]?.id, coming);
  });

  it("a worker's own lanes heed it too", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await enqueue("lane");
    await pause("lane");
    const look = () => sql<{ jobs: { ids: string[] } | null }[]>`
      select queue.advance((queue.register_worker('w', null, null, null) ->> 'worker')::int, p_limit => 5,
        p_queue_ids => array(select id from queue.queues where name = 'lane')) -> 'jobs' as jobs`;

    assert.equal((await look())[0]?.jobs, null);
    await resume("lane");
    assert.equal((await look())[0]?.jobs?.ids.length, 1);
  });

  it("says whether anything changed", async () => {
    const { enqueue } = rigOf(context.db);
    await enqueue("twice");

    const changes = [
      await resume("twice"),
      await pause("twice"),
      await pause("twice"),
      await resume("twice"),
      await resume("twice"),
    ];

    assert.deepEqual(changes, [false, true, false, true, false]);
  });

  it("keeps since when and why, until it is resumed", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await enqueue("why");
    const state = async () =>
      (
        await sql`select is_paused, paused_at is not null as has_time, paused_reason from queue.queues where name = 'why'`
      )[0];

    await pause("why", "provider is down");
    const paused = { ...(await state()) };
    await resume("why");

    assert.deepEqual(paused, {
      is_paused: true,
      has_time: true,
      paused_reason: "provider is down",
    });
    assert.deepEqual(
      { ...(await state()) },
      { is_paused: false, has_time: false, paused_reason: null },
    );
  });

  it("is written down, but only when something changed", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await enqueue("audit");

    await pause("audit", "because");
    await pause("audit", "once more");
    await resume("audit");

    const entries = await sql`
      select action, detail ->> 'reason' as reason from queue.audit where detail ->> 'queue' = 'audit' order by id`;
    assert.deepEqual(
      entries.map((entry) => ({ ...entry })),
      [
        { action: "queue_paused", reason: "because" },
        { action: "queue_resumed", reason: null },
      ],
    );
  });

  it("refuses a queue that nobody knows", async () => {
    const refused = [await refusal(pause("no-such-queue")), await refusal(resume("no-such-queue"))];

    for (const one of refused) {
      assert.equal(one.code, "MR014");
      assert.match(one.message, /unknown queue: 'no-such-queue'/);
      assert.ok(one.detail && one.hint);
    }
  });
});
