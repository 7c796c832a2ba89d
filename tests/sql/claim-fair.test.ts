import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { type ClaimedColumns, toRows } from "../../src/db/claimed-jobs.ts";
import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { type ClaimedJob, only, rigOf } from "./rig.ts";
import { advance, registerWorker } from "./worker-calls.ts";

describeOnEachServer("a fair claim", (context) => {
  beforeEach(async () => {
    await rigOf(context.db).clear();
    // Where one has another weight, all claims go another way.
    await context.db.sql`update queue.tenants set weight = 1 where weight <> 1`;
  });

  it("serves the tenant with one job within a round of the tenant with thousands", async () => {
    const { claim } = rigOf(context.db);
    await enqueueBacklogs(context.db.sql, "skew", { whale: 5000, shrimp: 1 });

    const jobs = await claim("skew", { batch: 10 });

    assert.deepEqual(countByTenant(jobs), { whale: 9, shrimp: 1 });
  });

  it("serves a tenant whose only job is in another queue, beside the backlog of the first", async () => {
    const { claim } = rigOf(context.db);
    await enqueueBacklogs(context.db.sql, "mail", { whale: 5000 });

    // Which queue comes first is drawn: what holds by luck alone does not hold twenty times.
    for (let round = 0; round < 20; round += 1) {
      await enqueueBacklogs(context.db.sql, "audio", { shrimp: 1 });

      const jobs = await claim(["mail", "audio"], { batch: 10 });

      assert.deepEqual(countByTenant(jobs), { whale: 9, shrimp: 1 });
    }
  });

  it("draws lots between queues of several tenants when it may take one job", async () => {
    const { claim } = rigOf(context.db);
    await enqueueBacklogs(context.db.sql, "mail", { whale: 5000 });
    await enqueueBacklogs(context.db.sql, "audio", { shrimp: 1 });
    let rounds = 0;

    for (let jobs: readonly ClaimedJob[] = []; jobs[0]?.tenant_id !== "shrimp"; rounds += 1) {
      jobs = await claim(["mail", "audio"], { batch: 1 });
      // Half of the draws are won; fifty lost in a row are a fault.
      assert.ok(rounds < 50);
    }
  });

  it("fills up with the more urgent jobs of all queues before it takes less urgent ones", async () => {
    const { claim, enqueue } = rigOf(context.db);
    for (let n = 0; n < 6; n += 1) await enqueue("first", { tenant: "a", priority: "high" });
    await enqueue("second", { tenant: "b", priority: "high" });
    await enqueue("second", { tenant: "b", priority: "normal" });

    const jobs = await claim(["first", "second"], { batch: 7 });

    assert.deepEqual(new Set(jobs.map(({ priority }) => priority)), new Set(["high"]));
  });

  it("shares a batch evenly, and what the small leave over goes to the big", async () => {
    const { claim } = rigOf(context.db);
    await enqueueBacklogs(context.db.sql, "even", { a: 100, b: 3, c: 100 });

    const jobs = await claim("even", { batch: 30 });

    const counts = countByTenant(jobs);
    assert.equal(jobs.length, 30);
    assert.equal(counts["b"], 3);
    assert.ok(only(counts["a"]) >= 10 && only(counts["c"]) >= 10, JSON.stringify(counts));
  });

  it("shares by weight", async () => {
    const { claim, sql } = rigOf(context.db);
    await enqueueBacklogs(context.db.sql, "weight", { light: 100, heavy: 100 });
    await sql`update queue.tenants set weight = 3 where name = 'heavy'`;

    const jobs = await claim("weight", { batch: 40 });

    assert.deepEqual(countByTenant(jobs), { light: 10, heavy: 30 });
  });

  it("runs the jobs of a batch in turns, oldest first in each lane", async () => {
    const { claim, enqueue } = rigOf(context.db);
    const ann = [
      await enqueue("turn", { tenant: "ann" }),
      await enqueue("turn", { tenant: "ann" }),
    ];
    const ben = [
      await enqueue("turn", { tenant: "ben" }),
      await enqueue("turn", { tenant: "ben" }),
    ];

    const ids = (await claim("turn", { batch: 4 })).map(({ id }) => id);

    assert.deepEqual(new Set(ids.slice(0, 2)), new Set([ann[0], ben[0]]));
    assert.deepEqual(new Set(ids.slice(2)), new Set([ann[1], ben[1]]));
  });

  it("a worker that remembers its turn serves every tenant once before any twice", async () => {
    const { sql } = context.db;
    await enqueueBacklogs(context.db.sql, "memory", { a: 50, b: 50, c: 50, d: 50 });
    const claimed: string[] = [];
    let mark: unknown = null;

    for (let n = 0; n < 12; n += 1) {
      const step = await advanceOne(sql, "memory", mark);
      claimed.push(step.tenant);
      mark = step.mark;
    }

    for (const round of [0, 4, 8]) {
      assert.equal(new Set(claimed.slice(round, round + 4)).size, 4, claimed.join(" "));
    }
  });

  it("does not come back empty because others are just emptying the first lanes", async () => {
    const { claim } = rigOf(context.db);
    await enqueueBacklogs(context.db.sql, "busy", { a: 1, b: 1, c: 1, d: 1, e: 1, f: 1 });
    const sessions = Array.from({ length: 6 }, () => context.db.connect({ max: 1 }));

    const taken = await holdOneEach(sessions, "busy");

    assert.equal(taken.length, 6, "each of the six claimers got one of the six jobs");
    assert.equal(new Set(taken).size, 6);
    assert.deepEqual([...(await claim("busy"))], []);
  });

  it("gives each tenant eight jobs or all it has before any has more, in a large claim", async () => {
    const { claim } = rigOf(context.db);
    const sizes: Record<string, number> = {};
    for (let n = 0; n < 140; n += 1) sizes[`t${n}`] = [1, 30, 3, 2, 12, 9, 1][n % 7] ?? 1;
    await enqueueBacklogs(context.db.sql, "large", sizes);

    const counts = countByTenant(await claim("large", { batch: 500 }));

    const isTurn = ([tenant, count]: [string, number]): boolean =>
      count === Math.min(only(sizes[tenant]), 8);
    assert.equal(sum(counts), 500);
    assert.equal(Object.entries(counts).filter((entry) => !isTurn(entry)).length <= 1, true);
  });

  it("a worker that remembers a round of few tenants fills a large claim in one, and forgets when others come", async () => {
    const { sql } = context.db;
    await enqueueBacklogs(sql, "few", { a: 400, b: 400, c: 400, d: 3 });
    const worker = await registerWorker(sql, "large");
    const call = async (mark: unknown) => {
      const { jobs, mark: next } = await advance(sql, worker, { limit: 500, types: ["few"], mark });
      return { mark: next, tenants: jobs.map((job) => String(job[6])) };
    };

    const first = await call({});
    const second = await call(first.mark);
    const late = Object.fromEntries(Array.from({ length: 70 }, (_, n) => [`late${n}`, 1]));
    await enqueueBacklogs(sql, "few", late);
    const third = await call(second.mark);

    for (const { tenants } of [first, second]) {
      const { a, b, c } = countByTenant(tenants.map((tenant_id) => ({ tenant_id })));
      for (const count of [a, b, c]) assert.ok(only(count) >= 120, `${a} ${b} ${c}`);
      // Long turns run in short ones.
      assert.equal(new Set(tenants.slice(0, 24)).size >= 3, true, tenants.slice(0, 24).join(" "));
    }
    assert.equal([...first.tenants, ...second.tenants, ...third.tenants].length, 1203 + 70);
    assert.deepEqual(new Set(third.tenants), new Set(["a", "b", "c", ...Object.keys(late)]));
  });

  it("jobs without a tenant are a lane like any other", async () => {
    const { claim, sql } = rigOf(context.db);
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'none')) from generate_series(1, 50)))`;
    await enqueueBacklogs(context.db.sql, "none", { some: 50 });

    const counts = countByTenant(await claim("none", { batch: 20 }));

    assert.deepEqual(counts, { null: 10, some: 10 });
  });

  it("a queue that is first in, first out asks for no tenant", async () => {
    const { claim, enqueue, sql } = rigOf(context.db);
    await enqueue("fifo");
    await sql`update queue.queues set is_fifo = true where name = 'fifo'`;
    const ids = [
      await enqueue("fifo", { tenant: "b" }),
      await enqueue("fifo", { tenant: "b" }),
      await enqueue("fifo", { tenant: "a" }),
      await enqueue("fifo", { tenant: "b" }),
    ];

    const jobs = [...(await claim("fifo", { batch: 3 })), ...(await claim("fifo", { batch: 9 }))];

    assert.deepEqual(
      jobs.map(({ id }) => id).filter((id) => ids.includes(id)),
      ids,
    );
  });

  it("a claim for one tenant finds its jobs in a first-in-first-out queue too", async () => {
    const { claim, enqueue, sql } = rigOf(context.db);
    await sql`insert into queue.queues (name, is_fifo) values ('line', true)`;
    await enqueue("f", { queue: "line", tenant: "x" });
    const own = await enqueue("f", { queue: "line", tenant: "y" });
    await enqueue("f", { queue: "line" });

    const jobs = await claim(null, { tenant: "y", batch: 5 });

    assert.deepEqual(
      jobs.map(({ id }) => id),
      [own],
    );
  });

  it("a claim for one tenant does not look through the jobs of no tenant", async () => {
    const { enqueue, sql } = rigOf(context.db);
    await enqueue("own", { tenant: "lonely" });
    await sql`delete from queue.ready`;
    await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', 'crowd')) from generate_series(1, 3000)))`;
    const look = () => sql<{ "QUERY PLAN": [{ Plan: Record<string, number> }] }[]>`
      explain (analyze, buffers, format json) select * from public.claim_next_job('w', 'lonely')`;

    await look();
    const [row] = await look();

    const { "Actual Rows": rows, "Shared Hit Blocks": pages } = only(row)["QUERY PLAN"][0].Plan;
    assert.equal(rows, 0);
    assert.ok(only(pages) < 500, `${pages} pages`);
  });
});

describeOnEachServer(
  "a fair claim over time",
  (context) => {
    it("single claims without memory give tenants alike, however far apart their numbers lie", async () => {
      const { sql } = context.db;
      await enqueueBacklogs(context.db.sql, "gap", { near: 200 });
      await sql`select setval(pg_get_serial_sequence('queue.tenants', 'id'), 100000 + nextval('queue.lease_ids'))`;
      await enqueueBacklogs(context.db.sql, "gap", { far: 200 });

      const counts = await countClaims(context.db, "gap", 60);

      assert.ok(only(counts["near"]) >= 15 && only(counts["far"]) >= 15, JSON.stringify(counts));
    });

    it("single claims without memory follow the weights", async () => {
      const { sql } = context.db;
      await enqueueBacklogs(context.db.sql, "lots", { one: 100, four: 100 });
      await sql`update queue.tenants set weight = 4 where name = 'four'`;

      const counts = await countClaims(context.db, "lots", 100);

      // 20 and 80 are expected, 50 and 50 without weights.
      assert.ok(only(counts["one"]) >= 5 && only(counts["one"]) <= 36, JSON.stringify(counts));
    });

    it("a worker that remembers its turn and claims singly follows the weights", async () => {
      const session = await seededSession(context.db);
      await enqueueBacklogs(context.db.sql, "heavy-turn", { h1: 150, h2: 150 });
      await session`update queue.tenants set weight = 3 where name = 'h2'`;
      const claimed: string[] = [];
      let mark: unknown = null;

      for (let n = 0; n < 80; n += 1) {
        const step = await advanceOne(session, "heavy-turn", mark);
        claimed.push(step.tenant);
        mark = step.mark;
      }

      // 20 of 80 are expected of the light one, 40 without weights.
      const light = claimed.filter((tenant) => tenant === "h1").length;
      assert.ok(light >= 10 && light <= 31, String(light));
    });
  },
  // The lots must be drawn in one session.
  { pooler: false },
);

/** Backlogs in one queue: so many jobs of each tenant, those of the first named enqueued first. */
async function enqueueBacklogs(
  sql: TestSql,
  type: string,
  backlogs: Record<string, number>,
): Promise<void> {
  await sql`select public.enqueue_jobs((
      select jsonb_agg(jsonb_build_object('type', ${type}::text, 'tenant_id', given.key) order by given.ordinality)
      from jsonb_each_text(${sql.json(backlogs)}) with ordinality as given,
        generate_series(1, given.value::int)))`;
}

/** A session in which the lots that a claim draws are the same in every run. */
async function seededSession(db: TestDatabase): Promise<TestSql> {
  const session = db.connect({ max: 1 });
  await session`select setseed(0.42)`;
  return session;
}

/** Jobs per tenant of that many single claims by callers that remember nothing. */
async function countClaims(
  db: TestDatabase,
  type: string,
  claims: number,
): Promise<Record<string, number>> {
  const session = await seededSession(db);
  const { claim } = rigOf(db, session);
  const jobs: ClaimedJob[] = [];
  for (let n = 0; n < claims; n += 1) jobs.push(...(await claim(type)));
  await session.end();
  return countByTenant(jobs);
}

function countByTenant(jobs: readonly { tenant_id: string | null }[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { tenant_id } of jobs) {
    counts[String(tenant_id)] = (counts[String(tenant_id)] ?? 0) + 1;
  }
  return counts;
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

/** One job for a worker that goes on from the mark of its last answer. */
async function advanceOne(
  sql: TestSql,
  type: string,
  mark: unknown,
): Promise<{ tenant: string; mark: unknown }> {
  const [row] = await sql<{ answer: { jobs: ClaimedColumns | null; mark: unknown } }[]>`
    select queue.advance(
      p_worker => (queue.register_worker('turns', null, null, array[${type}]) ->> 'worker')::int, p_limit => 1,
      p_type_ids => array(select id from queue.types where name = ${type}),
      p_mark => ${mark === null ? null : JSON.stringify(mark)}::text::json) as answer`;
  const { answer } = only(row);
  return { tenant: String(toRows(answer.jobs)[0]?.[6]), mark: answer.mark };
}

/** Each session claims one job in a transaction that stays open until all have claimed. */
async function holdOneEach(sessions: readonly TestSql[], type: string): Promise<string[]> {
  const [session, ...others] = sessions;
  if (!session) return [];
  return session.begin(async (tx) => {
    const rows = await tx`select id from public.get_next_job(${`w${sessions.length}`}, ${[type]})`;
    const later = await holdOneEach(others, type);
    return [...rows.map((row) => String(row["id"])), ...later];
  }) as Promise<string[]>;
}
