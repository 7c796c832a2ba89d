import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";
import { type Answer, advance, registerWorker } from "./worker-calls.ts";

describeOnEachServer("a claim that goes on from its mark", (context) => {
  let worker = 0;
  before(async () => {
    worker = await registerWorker(context.db.sql, "marker");
  });
  beforeEach(() => rigOf(context.db).clear());

  function claim(types: string[], mark: unknown, limit = 1): Promise<Answer> {
    return advance(context.db.sql, worker, { limit, types, mark });
  }

  it("takes every job once and in order", async () => {
    const { enqueue } = rigOf(context.db);
    const ids: string[] = [];
    for (let n = 0; n < 7; n += 1) ids.push(await enqueue("line"));
    const claimed: string[] = [];
    let mark: unknown = null;

    for (let n = 0; n < 4; n += 1) {
      const answer = await claim(["line"], mark, 2);
      claimed.push(...answer.jobs.map((job) => job[1]));
      mark = answer.mark;
    }

    assert.deepEqual(claimed, ids);
  });

  it("among jobs of one moment goes on by their ids", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const made = await sql<{ id: string }[]>`select id from public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'moment')) from generate_series(1, 4)))`;
    const later = await enqueue("moment");

    const first = await claim(["moment"], null, 2);
    const second = await claim(["moment"], first.mark, 1);
    const third = await claim(["moment"], second.mark, 5);

    assert.deepEqual(
      [...first.jobs, ...second.jobs, ...third.jobs].map((job) => job[1]),
      [...made.map(({ id }) => id), later],
    );
  });

  it("takes only what is more urgent than a rank, when it asks for that", async () => {
    const { enqueue } = rigOf(context.db);
    const low = await enqueue("ranks", { priority: "low" });
    const normal = await enqueue("ranks", { priority: "normal" });
    const critical = await enqueue("ranks", { priority: "critical" });
    const ids = async (ranks: number): Promise<unknown[]> =>
      (await claim(["ranks"], { ranks }, 5)).jobs.map((job) => job[1]);

    assert.deepEqual(await ids(2), [critical]);
    assert.deepEqual(await ids(2), [], "nothing more urgent than normal is left");
    assert.deepEqual(await ids(3), [normal]);
    assert.deepEqual(
      (await claim(["ranks"], null, 5)).jobs.map((job) => job[1]),
      [low],
    );
  });

  it("leaves a job that lies before the mark to the full sweep", async () => {
    const { enqueue, settle, start } = rigOf(context.db);
    const early = await start("before");
    const [second, third] = [await enqueue("before"), await enqueue("before")];
    const { jobs, mark } = await claim(["before"], null);
    await settle(early, { outcome: "released" });

    const marked = await claim(["before"], mark);
    const sweep = await claim(["before"], null);

    assert.deepEqual(
      [jobs, marked.jobs, sweep.jobs].map((found) => found[0]?.[1]),
      [second, third, early.id],
    );
  });

  it("leaves a job of higher priority to the full sweep, as long as it finds work", async () => {
    const { enqueue } = rigOf(context.db);
    for (let n = 0; n < 3; n += 1) await enqueue("rank", { priority: "low" });
    const { mark } = await claim(["rank"], null);
    const urgent = await enqueue("rank", { priority: "critical" });

    const marked = await claim(["rank"], mark);
    const sweep = await claim(["rank"], null);

    assert.equal(marked.jobs[0]?.[4], "low");
    assert.equal(sweep.jobs[0]?.[1], urgent);
  });

  it("lets one of many workers look at everything, and the next one a while later", async () => {
    const { enqueue } = rigOf(context.db);
    for (let n = 0; n < 3; n += 1) await enqueue("share", { priority: "low" });
    const { mark } = await claim(["share"], null);
    const wish = { ...(mark as object), sweep: true };
    const sweeper = await claim(["share"], wish);
    const urgent = await enqueue("share", { priority: "critical" });

    const other = await claim(["share"], wish);
    await context.db.advance(150);
    const later = await claim(["share"], wish);

    assert.equal(sweeper.jobs[0]?.[4], "low");
    assert.equal(other.jobs[0]?.[4], "low");
    assert.equal(later.jobs[0]?.[1], urgent);
  });

  it("lets workers of other types look for themselves", async () => {
    const { enqueue } = rigOf(context.db);
    for (let n = 0; n < 3; n += 1) await enqueue("mine", { priority: "low" });
    await enqueue("theirs", { priority: "low" });
    const { mark } = await claim(["mine"], null);
    const wish = { ...(mark as object), sweep: true };
    await claim(["mine"], wish);
    const urgent = await enqueue("mine", { priority: "critical" });

    const other = await claim(["mine", "theirs"], wish);

    assert.equal(other.jobs[0]?.[1], urgent);
  });

  it("looks everywhere by itself when nothing follows the mark", async () => {
    const { enqueue, settle, start } = rigOf(context.db);
    const early = await start("empty");
    await enqueue("empty");
    const { mark } = await claim(["empty"], null);
    await settle(early, { outcome: "released" });
    const other = await enqueue("empty.other", { priority: "low" });

    const answer = await claim(["empty", "empty.other"], mark, 5);

    assert.deepEqual(
      answer.jobs.map((job) => job[1]),
      [early.id, other],
    );
  });

  it("a transaction that enqueued early and commits late loses nothing", async () => {
    const { enqueue, start } = rigOf(context.db);
    await start("commit");
    const producer = context.db.connect({ max: 1 });

    const { late, mark } = await producer.begin(async (tx) => {
      const [made] = await tx<{ id: string }[]>`select public.enqueue_job('commit') as id`;
      await enqueue("commit");
      await enqueue("commit");
      return { late: only(made).id, mark: (await claim(["commit"], null)).mark };
    });
    const marked = await claim(["commit"], mark);
    const sweep = await claim(["commit"], null);

    assert.notEqual(marked.jobs[0]?.[1], late);
    assert.equal(sweep.jobs[0]?.[1], late);
  });

  it("heeds a pause that came after the mark", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await enqueue("paused");
    await enqueue("paused");
    const { mark } = await claim(["paused"], null);
    await sql`select public.pause_queue('paused')`;

    assert.deepEqual((await claim(["paused"], mark)).jobs, []);
    await sql`select public.resume_queue('paused')`;
    assert.equal((await claim(["paused"], mark)).jobs.length, 1);
  });

  it("keeps to the types asked for", async () => {
    const { enqueue } = rigOf(context.db);
    await enqueue("mine", { queue: "shared" });
    await enqueue("theirs", { queue: "shared" });
    const last = await enqueue("mine", { queue: "shared" });
    const { mark } = await claim(["mine"], null);

    const answer = await claim(["mine"], mark, 5);

    assert.deepEqual(
      answer.jobs.map((job) => job[1]),
      [last],
    );
  });

  it("has no mark when it found nothing", async () => {
    const answer = await claim(["nothing"], {
      q: 1,
      p: 2,
      l: 0,
      at: "2026-01-01T00:00:00Z",
      id: 1,
    });

    assert.deepEqual([answer.jobs, answer.mark], [[], null]);
  });
});
