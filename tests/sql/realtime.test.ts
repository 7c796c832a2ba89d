/**
 * News of jobs for browsers over Supabase Realtime, which is a stub here: what is sent, to whom, how often, and
 * that nobody's work fails of it.
 */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { signIn } from "./end-users.ts";
import { type Leased, only, rigOf } from "./rig.ts";
import { installRealtime, realtimeMessages } from "./supabase-stubs.ts";
import { advance, registerWorker } from "./worker-calls.ts";

const ACME = { tenant: "acme" };

async function switchBroadcasts(sql: TestSql, on: boolean): Promise<void> {
  await sql`update queue.settings set broadcasts = ${on}`;
}

async function report(sql: TestSql, job: Leased, percent: number): Promise<boolean> {
  const [row] = await sql<{ kept: boolean }[]>`
    select public.report_progress(${job.id}, ${percent}, 'on it', '{"secret": 1}', ${job.lease_id}) as kept`;
  return only(row).kept;
}

describeOnEachServer("to the Realtime topic of a tenant", (context) => {
  before(() => installRealtime(context.db));
  beforeEach(async () => {
    await rigOf(context.db).clear();
    await context.db.superSql`truncate realtime.messages`;
    await switchBroadcasts(context.db.sql, true);
  });
  /** "event status" of each message of a job, in order. */
  const eventsOf = async (id: string) =>
    (await realtimeMessages(context.db))
      .filter(({ payload }) => payload["id"] === id)
      .map(({ event, payload }) => `${event} ${payload["status"]}`);

  it("nothing is sent where nobody switched it on", async () => {
    const { complete, start, sql } = rigOf(context.db);
    await switchBroadcasts(sql, false);
    const job = await start("quiet", ACME);

    await report(sql, job, 50);
    await complete(job);

    assert.deepEqual(await realtimeMessages(context.db), []);
  });

  it("progress is sent, in a private message without the data", async () => {
    const { sql, start } = rigOf(context.db);
    const job = await start("far", ACME);

    await report(sql, job, 12.5);

    assert.deepEqual(await realtimeMessages(context.db), [
      {
        topic: "queue:tenant:acme",
        event: "progress",
        payload: { id: job.id, type: "far", status: "processing", percent: 12.5, message: "on it" },
        private: true,
      },
    ]);
  });

  it("progress is sent once a second for each job, and all of it is kept", async () => {
    const { row, sql, start } = rigOf(context.db);
    const job = await start("often", ACME);
    const other = await start("often", ACME);

    for (const percent of [10, 20, 30]) await report(sql, job, percent);
    await report(sql, other, 1);
    await context.db.advance(1_000);
    for (const percent of [40, 50]) await report(sql, job, percent);

    const sent = await realtimeMessages(context.db);
    assert.deepEqual(
      sent.map(({ payload }) => [payload["id"], payload["percent"]]),
      [
        [job.id, 10],
        [other.id, 1],
        [job.id, 40],
      ],
    );
    assert.equal((await row(job.id)).progress_percent, "50.00");
  });

  it("no progress is sent of a lease that was lost", async () => {
    const { complete, sql, start } = rigOf(context.db);
    const job = await start("lost", ACME);
    await complete(job);

    assert.equal(await report(sql, job, 99), false);

    assert.deepEqual(await eventsOf(job.id), ["ended completed"]);
  });

  it("every end is sent, and no retry", async () => {
    const { bury, complete, enqueue, fail, sql, start, take } = rigOf(context.db);
    const completed = await start("ends", ACME);
    await complete(completed);
    const failed = await bury("ends", ACME);
    const cancelled = await enqueue("ends", ACME);
    const child = await enqueue("child", { ...ACME, dependsOn: [cancelled] });
    await sql`select public.cancel_job(${cancelled})`;
    await enqueue("retried", ACME);
    const retried = await take("retried");
    await fail(retried, "again");

    assert.deepEqual(await eventsOf(completed.id), ["ended completed"]);
    assert.deepEqual(await eventsOf(failed), ["ended failed"]);
    assert.deepEqual(await eventsOf(cancelled), ["ended cancelled"]);
    assert.deepEqual(await eventsOf(child), ["ended cancelled"]);
    assert.deepEqual(await eventsOf(retried.id), []);
  });

  it("the end of a job is sent that ran out of attempts with its worker gone", async () => {
    const { sql, start } = rigOf(context.db);
    const job = await start("gone", { ...ACME, maxRetries: 0 });

    await context.db.advance(61_000);
    await sql`select public.cleanup_stuck_jobs()`;

    assert.deepEqual(await eventsOf(job.id), ["ended failed"]);
  });

  it("the ends of whole leases and of single jobs in a step of a worker are sent", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const worker = await registerWorker(sql, `teller ${context.major}`);
    for (let n = 0; n < 3; n += 1) await enqueue("step", ACME);
    const { jobs } = await advance(sql, worker, { limit: 3, types: ["step"] });
    const lease = only(jobs[0])[0];
    await advance(sql, worker, { whole: [{ lease, ms: [1, 1, 1] }] });

    const sent = await realtimeMessages(context.db);

    assert.deepEqual(
      sent.map(({ event, payload }) => `${event} ${payload["status"]}`),
      ["ended completed", "ended completed", "ended completed"],
    );
  });

  it("nothing is sent of jobs that belong to no tenant", async () => {
    const { complete, sql, start } = rigOf(context.db);
    const job = await start("nobody's");
    await report(sql, job, 50);
    await complete(job);

    assert.deepEqual(await realtimeMessages(context.db), []);
  });

  it("nothing is sent when the end is rolled back", async () => {
    const { start } = rigOf(context.db);
    const job = await start("undone", ACME);
    await context.db.sql
      .begin(async (tx) => {
        await rigOf(context.db, tx as unknown as TestSql).complete(job);
        throw new Error("undone");
      })
      .catch(() => undefined);

    assert.deepEqual(await realtimeMessages(context.db), []);
  });

  const BROKEN = [
    {
      what: "refuses",
      statement: "alter table realtime.messages add constraint full_up check (false) not valid",
    },
    { what: "can't be called", statement: "revoke execute on function realtime.send from public" },
    { what: "can't be looked up", statement: "revoke usage on schema realtime from postgres" },
    { what: "has gone", statement: "drop function realtime.send" },
  ];
  for (const { what, statement } of BROKEN) {
    it(`work goes on when Realtime ${what}`, async () => {
      const { row, start } = rigOf(context.db);
      const job = await start("steady", ACME);
      const { superSql } = context.db;
      const undo = "undo";
      const seen: unknown[] = [];
      await superSql
        .begin(async (tx) => {
          await tx.unsafe(statement);
          await tx.unsafe("set local role postgres");
          const session = rigOf(context.db, tx as unknown as TestSql);
          seen.push(await report(session.sql, job, 50), await session.complete(job));
          seen.push((await session.row(job.id)).progress_percent, await session.status(job.id));
          throw new Error(undo);
        })
        .catch((error: unknown) => assert.equal((error as Error).message, undo));

      assert.deepEqual(seen, [true, true, "50.00", "completed"]);
      assert.equal((await row(job.id)).status, "processing");
    });
  }
});

describeOnEachServer("grant_realtime", (context) => {
  const grant = async () => {
    const [row] = await context.db.sql<{ done: boolean }[]>`select queue.grant_realtime() as done`;
    return only(row).done;
  };
  /** What a user can read of the messages while it joins a channel of this topic. */
  async function heard(user: TestSql, topic: string): Promise<string[]> {
    return user.begin(async (tx) => {
      await tx`select set_config('realtime.topic', ${topic}, true)`;
      const rows = await tx<{ topic: string }[]>`select topic from realtime.messages`;
      return rows.map((row) => row.topic);
    });
  }

  it("says so where there is no Realtime", async () => {
    assert.equal(await grant(), false);
  });

  it("lets a user join the topic of its own tenant, and no other by any name", async () => {
    await installRealtime(context.db);
    const none = signIn(context.db, "acme", "bolt");
    const { complete, start, sql } = rigOf(context.db);
    await switchBroadcasts(sql, true);
    await complete(await start("news", ACME));
    assert.deepEqual(await heard(none, "queue:tenant:acme"), []);

    assert.deepEqual([await grant(), await grant()], [true, true]);

    const ann = signIn(context.db, "acme", "bolt");
    const bob = signIn(context.db, "bolt", "acme");
    const nobody = signIn(context.db, undefined, "acme");
    const anon = context.db.connectAs("anon", { app_metadata: { tenant_id: "acme" } });
    assert.deepEqual(await heard(ann, "queue:tenant:acme"), ["queue:tenant:acme"]);
    assert.deepEqual(await heard(bob, "queue:tenant:acme"), []);
    assert.deepEqual(await heard(nobody, "queue:tenant:acme"), []);
    assert.deepEqual(await heard(anon, "queue:tenant:acme"), []);
    assert.deepEqual(await heard(ann, "queue:tenant:bolt"), []);
    assert.deepEqual(await heard(ann, ""), []);
  });

  it("lets nobody write to it", async () => {
    const ann = signIn(context.db, "acme", "bolt");

    await assert.rejects(
      ann.unsafe(
        "insert into realtime.messages (topic, extension) values ('queue:tenant:acme', 'broadcast')",
      ),
      { code: "42501" },
    );
  });
});
