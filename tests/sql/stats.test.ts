/** queue_stats and queue_health: how deep the queues are, and whether the system is well. */
import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

interface Stats {
  readonly queue: string;
  readonly is_paused: boolean;
  readonly pending: string;
  readonly scheduled: string;
  readonly blocked: string;
  readonly processing: string;
  readonly completed_last_hour: string;
  readonly failed_last_hour: string;
  readonly retried_last_hour: string;
  readonly dead_letters: string;
  readonly oldest_pending_seconds: number | null;
}

const NOTHING = {
  is_paused: false,
  pending: "0",
  scheduled: "0",
  blocked: "0",
  processing: "0",
  fetched: "0",
  completed_last_hour: "0",
  failed_last_hour: "0",
  retried_last_hour: "0",
  dead_letters: "0",
  oldest_pending_seconds: null,
};

describeOnEachServer("queue_stats", (context) => {
  async function stats(queue: string): Promise<Stats> {
    const rows = await context.db.sql<Stats[]>`select * from public.queue_stats(${queue})`;
    assert.equal(rows.length, 1, `one row for ${queue}`);
    return { ...only(rows[0]) };
  }

  it("counts the open jobs of a queue by their status", async () => {
    const { enqueue, start, inMs } = rigOf(context.db);
    const scheduledAt = await inMs(60_000);
    const running = await start("deep");
    await enqueue("deep", { dependsOn: [running.id] });
    for (const _ of [1, 2]) await enqueue("deep", { scheduledAt });
    for (const _ of [1, 2, 3]) await enqueue("deep");

    const told = await stats("deep");

    assert.deepEqual(
      { ...told, oldest_pending_seconds: null },
      { ...NOTHING, queue: "deep", pending: "3", scheduled: "2", blocked: "1", processing: "1" },
    );
  });

  it("counts what ended in the last hour, and forgets it after that", async () => {
    const { start, complete, fail, bury, enqueue, sql } = rigOf(context.db);
    for (const _ of [1, 2]) await complete(await start("rates"));
    await fail(await start("rates"), "once", { after: 7200 });
    await bury("rates");
    await sql`select public.cancel_job(${await enqueue("rates")})`;

    const within = await stats("rates");
    await context.db.advance(3_601_000);
    const later = await stats("rates");

    assert.deepEqual(within, {
      ...NOTHING,
      queue: "rates",
      scheduled: "1",
      completed_last_hour: "2",
      retried_last_hour: "1",
      failed_last_hour: "1",
      dead_letters: "1",
    });
    assert.deepEqual(later, { ...NOTHING, queue: "rates", scheduled: "1", dead_letters: "1" });
  });

  it("counts a lost worker's job as retried", async () => {
    const { start, sql } = rigOf(context.db);
    await start("lost", {}, { seconds: 1 });
    await context.db.advance(2000);
    await sql`select public.cleanup_stuck_jobs()`;

    const told = await stats("lost");

    assert.deepEqual([told.retried_last_hour, told.pending, told.processing], ["1", "1", "0"]);
  });

  it("counts no job of a batch as processing that has ended already", async () => {
    const { enqueue, claim, complete } = rigOf(context.db);
    for (const _ of [1, 2, 3]) await enqueue("batch");
    const [first] = await claim("batch", { batch: 3 });
    await complete(only(first));

    const told = await stats("batch");

    assert.deepEqual([told.processing, told.completed_last_hour], ["2", "1"]);
  });

  it("tells how long the oldest pending job has waited", async () => {
    const { enqueue } = rigOf(context.db);
    await enqueue("old");
    await context.db.advance(120_000);
    await enqueue("old");

    const told = await stats("old");

    assert.ok(told.oldest_pending_seconds !== null);
    assert.ok(told.oldest_pending_seconds >= 120 && told.oldest_pending_seconds < 180);
  });

  it("counts jobs in the queue they were sent to, not in that of their type", async () => {
    await rigOf(context.db).enqueue("kind", { queue: "chosen" });

    const rows = await context.db.sql`select queue from public.queue_stats('kind')`;

    assert.equal((await stats("chosen")).pending, "1");
    assert.equal(rows.length, 0);
  });

  it("tells that a queue is paused", async () => {
    await rigOf(context.db).enqueue("asleep");
    await context.db.sql`select public.pause_queue('asleep')`;

    assert.equal((await stats("asleep")).is_paused, true);
  });

  it("answers all queues in the order of their names, and no row for a name nobody knows", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await enqueue("zz");
    await enqueue("aa");

    const all = await sql<{ queue: string }[]>`select queue from public.queue_stats()`;
    const none = await sql`select from public.queue_stats('nobody')`;

    const names = all.map(({ queue }) => queue);
    assert.deepEqual(names, [...names].sort());
    assert.ok(names.includes("aa") && names.includes("zz"));
    assert.equal(none.length, 0);
  });
});

interface Health {
  readonly status: string;
  readonly schema_version: number;
  readonly live_workers: number;
  readonly oldest_pending_seconds: number | null;
  readonly dead_letters: number;
  readonly paused_queues: number;
  readonly problems: readonly { readonly code: string; readonly message: string }[];
}

describeOnEachServer("queue_health", (context) => {
  beforeEach(async () => {
    await context.db.sql.unsafe(
      "truncate queue.ready, queue.scheduled, queue.leases, queue.dead_letters, queue.workers; update queue.queues set is_paused = false, paused_at = null",
    );
  });

  async function health(): Promise<Health> {
    const [row] = await context.db.sql<{ health: Health }[]>`
      select public.queue_health() as health`;
    return only(row).health;
  }
  const problems = ({ problems: told }: Health) => told.map(({ code }) => code);
  const serve = () => context.db.sql`select queue.register_worker('server', null, null, null)`;

  it("is ok where nothing is to be done", async () => {
    const told = await health();

    assert.deepEqual([told.status, told.problems, told.schema_version], ["ok", [], 1]);
    assert.deepEqual(
      [told.live_workers, told.dead_letters, told.paused_queues, told.oldest_pending_seconds],
      [0, 0, 0, null],
    );
  });

  it("is ok where jobs wait and a worker lives", async () => {
    await rigOf(context.db).enqueue("fine");
    await serve();

    const told = await health();

    assert.deepEqual([told.status, told.live_workers], ["ok", 1]);
    assert.ok(told.oldest_pending_seconds !== null && told.oldest_pending_seconds < 60);
  });

  it("is degraded where jobs wait and no worker lives", async () => {
    await rigOf(context.db).enqueue("alone");

    const told = await health();

    assert.deepEqual([told.status, problems(told)], ["degraded", ["no_live_worker"]]);
    assert.equal(told.problems[0]?.message, "Jobs are pending and no worker is alive.");
  });

  it("is degraded where a job has waited for more than five minutes", async () => {
    await rigOf(context.db).enqueue("slow");
    await context.db.advance(301_000);
    await serve();

    const told = await health();

    assert.ok(problems(told).includes("backlog"));
    assert.match(
      told.problems[0]?.message ?? "",
      /^The oldest pending job has waited for 30\d s\.$/,
    );
  });

  it("does not mind jobs that wait in a paused queue, and counts it", async () => {
    await rigOf(context.db).enqueue("resting");
    await context.db.sql`select public.pause_queue('resting')`;

    const told = await health();

    assert.deepEqual([problems(told), told.paused_queues], [[], 1]);
  });

  it("is degraded where a lease ran out over a minute ago and nobody took it back", async () => {
    const { start, sql } = rigOf(context.db);
    await start("stuck", {}, { seconds: 1 });
    await context.db.advance(50_000);
    const early = await health();
    await context.db.advance(20_000);
    const late = await health();
    await sql`select public.cleanup_stuck_jobs()`;
    const rescued = await health();

    assert.deepEqual(
      [early, late, rescued].map((told) => problems(told).includes("stuck_leases")),
      [false, true, false],
    );
  });

  it("counts dead letters without taking them for a problem", async () => {
    const { bury } = rigOf(context.db);
    for (const _ of [1, 2]) await bury("dead");

    const told = await health();

    assert.deepEqual([told.dead_letters, problems(told).includes("no_live_worker")], [2, false]);
  });
});

describeOnEachServer("queue_health beside a long transaction", (context) => {
  it("says how long it has been open", async (t) => {
    const holder = context.db.connect({ max: 1 });
    await holder`begin isolation level repeatable read`;
    await holder`select from queue.settings`;
    t.after(() => holder`rollback`);
    const [before] = await context.db.sql`select public.queue_health() as health`;
    await context.db.advance(601_000);

    const [after] = await context.db.sql`select public.queue_health() as health`;

    assert.deepEqual(before?.["health"].problems, []);
    assert.match(
      JSON.stringify(after?.["health"].problems),
      /"old_snapshot".*"A transaction has been open for 6\d\d s: dead rows can't be vacuumed\."/,
    );
  });
});
