import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

/** What workers tell with their heartbeats, in queue_stats, explain_job, queue_health and the rescuer's words. */
describeOnEachServer("what workers tell of themselves", (context) => {
  beforeEach(async () => {
    await rigOf(context.db).clear();
    await context.db.superSql`update queue.workers set is_registered = false`;
  });

  async function tell(name: string, types: string[], details: unknown): Promise<void> {
    const { sql } = context.db;
    await sql`select queue.register_worker(${name}, ${sql.json(details as never)}, null, ${types})`;
  }

  async function health(): Promise<{ code: string; message: string }[]> {
    const [row] = await context.db.sql`select public.queue_health() -> 'problems' as problems`;
    return row?.["problems"];
  }

  async function reasons(id: string): Promise<{ code: string; message: string }[]> {
    const [row] = await context.db.sql`select public.explain_job(${id}) -> 'reasons' as reasons`;
    return row?.["reasons"];
  }

  const lane = (slots: number, running: number, fetched = 0): object => ({
    lanes: { "*": { slots, running, fetched } },
  });

  it("a worker that has fetched more than it runs does not say which", async () => {
    const { start } = rigOf(context.db);
    const job = await start("held", {}, { worker: "w-held" });
    await tell("w-held", ["held"], lane(4, 4));
    assert.match(only((await reasons(job.id))[0]).message, /^Worker w-held is processing it/);

    await tell("w-held", ["held"], { ...lane(4, 4, 7), fetched: { held: 7 } });
    assert.match(
      only((await reasons(job.id))[0]).message,
      /^Worker w-held has fetched it, and runs jobs in 4 of 4 slots; its lease runs until/,
    );
    const [stats] = await context.db
      .sql`select processing, fetched from public.queue_stats('held')`;
    assert.deepEqual({ ...stats }, { processing: "1", fetched: "1" }, "no more than are held");
  });

  it("a job waits where all slots are taken, and not where one is free or nothing is known", async () => {
    const { enqueue } = rigOf(context.db);
    const id = await enqueue("full");
    await tell("w-full-1", ["full"], {
      ...lane(2, 2),
      overrun: { types: ["hung"], count: 1, ms: 7_300 },
    });
    const full = (await reasons(id)).find(({ code }) => code === "no_free_slot");
    assert.equal(
      full?.message,
      "No worker has a free slot for it: 2 of 2 are taken. In worker w-full-1 a handler of type hung has not stopped 7 s after the end of its attempt.",
    );
    await tell("w-full-2", ["full"], lane(3, 2));
    assert.deepEqual(
      (await reasons(id)).map(({ code }) => code),
      ["waiting_its_turn"],
    );
    await tell("w-full-2", ["full"], {});
    assert.deepEqual(
      (await reasons(id)).map(({ code }) => code),
      ["waiting_its_turn"],
    );
  });

  it("handlers that block or don't stop are problems; odd words of other programs are none", async () => {
    await tell("w-odd", ["odd"], {
      blocked: "yes",
      overrun: { count: "many" },
      lanes: 5,
      fetched: [1, 2],
    });
    await tell("w-odd-2", ["odd"], {
      blocked: { ms: [], types: {} },
      fetched: { odd: "x" },
      lanes: { "*": 7 },
    });
    assert.deepEqual(await health(), []);
    const [stats] = await context.db.sql`select count(*)::integer as n from public.queue_stats()`;
    assert.ok(Number(stats?.["n"]) >= 0);

    await tell("w-odd", ["odd"], { blocked: { types: ["a", "b"], ms: 4_012, ago_ms: 60_000 } });
    await tell("w-odd-2", ["odd"], { overrun: { types: ["hung"], count: 2, ms: 61_000 } });
    const problems = await health();
    assert.deepEqual(
      problems.map(({ code }) => code),
      ["event_loop_blocked", "handlers_overrun"],
    );
    assert.match(
      problems[0]?.message ?? "",
      /^Worker w-odd: a handler of type a or b blocked its event loop for 4012 ms, \d+ s ago\./,
    );
    assert.match(
      problems[1]?.message ?? "",
      /2 handlers of type hung have not stopped .* 61 s ago/,
    );
    await tell("w-odd", ["odd"], { blocked: { types: ["a"], ms: 4_012, ago_ms: 901_000 } });
    await tell("w-odd-2", ["odd"], {});
    assert.deepEqual(await health(), [], "it is long ago");
  });

  it("a job that runs ten times as long as others of its type is a problem", async () => {
    const { start, complete } = rigOf(context.db);
    for (const _ of [1, 2, 3]) {
      const usual = await start("long");
      await context.db.advance(10_000);
      await complete(usual);
    }
    const job = await start("long", {}, { seconds: 3_600 });
    await context.db.advance(90_000);
    assert.deepEqual(
      (await health()).filter(({ code }) => code === "long_runs"),
      [],
    );
    await context.db.advance(20_000);
    const [problem] = (await health()).filter(({ code }) => code === "long_runs");
    assert.match(
      problem?.message ?? "",
      new RegExp(
        `^Job ${job.id} of type long has run for 110 s in worker .*; others of its type took 10\\.0 s`,
      ),
    );
  });

  it("the rescuer says who blocked the worker that lost a job", async () => {
    const { start, sql } = rigOf(context.db);
    const job = await start("blocker", { maxRetries: 0 }, { worker: "w-blocked", seconds: 10 });
    await tell("w-blocked", ["blocker"], { blocked: { types: ["blocker"], ms: 9_000, ago_ms: 1 } });
    await context.db.advance(11_000);
    await sql`select public.cleanup_stuck_jobs()`;
    const [dead] = await sql`select last_error from public.job_dead_letter where id = ${job.id}`;
    assert.equal(
      dead?.["last_error"],
      "worker w-blocked did not finish, extend or release its lease in time; a handler of type blocker had blocked its event loop for 9000 ms before",
    );
  });
});
