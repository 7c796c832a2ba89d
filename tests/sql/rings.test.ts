/** What became of the rings: the HTTP outcome in our own log, what health tells of it, how long it is kept. */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import type { TestDatabase } from "../support/database.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { reset, SECRETS } from "./edge-rig.ts";
import { only, rigOf } from "./rig.ts";
import { answerRequests, installNet, installVault, type NetOutcome } from "./supabase-stubs.ts";

const DAY = 86_400_000;

interface Problem {
  readonly code: string;
  readonly message: string;
  readonly status_code?: number | null;
}

/** What health tells of the doorbell. */
async function problems({ sql }: TestDatabase): Promise<Problem[]> {
  const [row] = await sql<
    { problems: Problem[] }[]
  >`select public.queue_health() -> 'problems' as problems`;
  return only(row).problems.filter(({ code }) => code.startsWith("doorbell"));
}

async function ring(db: TestDatabase): Promise<void> {
  await rigOf(db).enqueue("work");
  const [row] = await db.sql<{ answer: string }[]>`select public.trigger_queue_worker() as answer`;
  assert.equal(only(row).answer, "rung");
}

async function collect({ sql }: TestDatabase): Promise<number> {
  const [row] = await sql<{ n: number }[]>`select queue.collect_rings() as n`;
  return only(row).n;
}

describeOnEachServer("rings", (context) => {
  before(async () => {
    await installNet(context.db);
    await installVault(context.db, SECRETS);
  });
  beforeEach(async () => {
    await reset(context.db);
    await context.db.superSql`truncate net._http_response`;
  });

  it("have no outcome until pg_net has one", async () => {
    await ring(context.db);

    const early = await collect(context.db);
    await answerRequests(context.db);
    const late = await collect(context.db);

    const [row] = await context.db.sql`select * from queue.rings`;
    assert.deepEqual([early, late, await collect(context.db)], [0, 1, 0]);
    assert.deepEqual(
      [row?.["reason"], row?.["status_code"], row?.["timed_out"], row?.["error"]],
      ["tick", 202, false, null],
    );
    assert.ok(row?.["finished_at"] >= row?.["at"]);
    assert.deepEqual(await problems(context.db), []);
  });

  for (const [who, statement] of [
    ["the tick", "select public.trigger_queue_worker()"],
    ["maintenance", "select queue.maintain()"],
    ["the worker's role", "set role millrace_worker; select queue.collect_rings(); reset role"],
  ] as const) {
    it(`are collected by ${who}`, async () => {
      await ring(context.db);
      await answerRequests(context.db);

      await context.db.superSql.unsafe(statement);

      const [row] = await context.db.sql`select status_code from queue.rings order by id limit 1`;
      assert.equal(row?.["status_code"], 202);
    });
  }

  it("say when a run ended before the work did", async () => {
    await rigOf(context.db).enqueue("work");

    const [row] = await context.db.connectAs("millrace_worker")`
      select queue.trigger_worker('process', null, 5, 'remaining') as answer`;

    const [log] = await context.db.sql`select reason from queue.rings`;
    assert.deepEqual([row?.["answer"], log?.["reason"]], ["rung", "remaining"]);
  });

  const FAILURES: readonly { outcome: NetOutcome; message: RegExp }[] = [
    {
      outcome: { status: 401 },
      message: /HTTP 401.*queue_worker_token.*QUEUE_WORKER_TOKEN.*--no-verify-jwt/,
    },
    {
      outcome: { status: 404 },
      message: /HTTP 404.*deploy the function queue-worker.*queue_worker_url/,
    },
    { outcome: { status: 301 }, message: /redirects \(HTTP 301\)/ },
    { outcome: { status: 429 }, message: /HTTP 429/ },
    {
      outcome: { status: 500, content: "x".repeat(2000) },
      message: /HTTP 500.*logs of the function/,
    },
    { outcome: { status: 422 }, message: /HTTP 422.*queue_worker_url/ },
    {
      outcome: { timedOut: true, error: "Timeout of 5000 ms reached" },
      message: /did not answer in 5 s/,
    },
    {
      outcome: { error: "Couldn't resolve host name" },
      message: /not reached: Couldn't resolve host name\. Check queue_worker_url/,
    },
    { outcome: {}, message: /not reached: no answer/ },
  ];
  for (const { outcome, message } of FAILURES) {
    it(`that end with ${outcome.status ?? outcome.error ?? "nothing"} are told by health, until one goes well`, async () => {
      await ring(context.db);
      await answerRequests(context.db, outcome);
      await collect(context.db);
      const told = await problems(context.db);
      await context.db.advance(2_000);
      await ring(context.db);
      await answerRequests(context.db);
      await collect(context.db);

      assert.deepEqual(
        told.map(({ code }) => code),
        ["doorbell_failing"],
      );
      assert.match(only(told[0]).message, message);
      assert.deepEqual(await problems(context.db), []);
    });
  }

  it("keep the beginning of an answer that was an error", async () => {
    await ring(context.db);
    await answerRequests(context.db, { status: 500, content: "x".repeat(2_000) });
    await collect(context.db);

    const [row] = await context.db.sql`select length(answer) as n from queue.rings`;
    assert.equal(row?.["n"], 500);
  });

  it("that never end are told after a minute, until one does", async () => {
    await ring(context.db);
    await context.db.advance(50_000);
    const early = await problems(context.db);
    await context.db.advance(20_000);
    const late = await problems(context.db);
    await context.db.superSql`truncate net.http_request_queue`;
    await ring(context.db);
    await answerRequests(context.db);
    await collect(context.db);

    assert.deepEqual(early, []);
    assert.deepEqual(
      late.map(({ code }) => code),
      ["doorbell_stuck"],
    );
    assert.match(only(late[0]).message, /for 7\d s.*net\.worker_restart\(\)/);
    assert.deepEqual(await problems(context.db), []);
  });

  it("of long ago don't take the answer of another request with the same number, after a crash", async () => {
    await ring(context.db);
    await context.db.superSql`
      insert into net._http_response (id, status_code, created)
      select request_id, 200, at - interval '1 hour' from queue.rings`;

    assert.equal(await collect(context.db), 0);
  });

  it("are kept for seven days", async () => {
    await ring(context.db);
    await context.db.superSql`truncate net.http_request_queue`;
    await context.db.advance(6 * DAY);
    await ring(context.db);
    await context.db.advance(DAY + 60_000);

    await collect(context.db);

    assert.equal((await context.db.sql`select from queue.rings`).length, 1);
  });

  it("are ten thousand at most", async () => {
    await context.db.sql`
      insert into queue.rings (at, reason, finished_at)
      select queue.clock(), 'tick', queue.clock() from generate_series(1, 10500)`;

    await collect(context.db);

    assert.equal((await context.db.sql`select from queue.rings`).length, 10_000);
  });

  it("are collected by one, and another neither waits nor collects them twice", async () => {
    await ring(context.db);
    await answerRequests(context.db);
    const holder = context.db.connect({ max: 1 });

    await holder.begin(async (tx) => {
      await tx`select queue.collect_rings()`;
      assert.equal(await collect(context.db), 0);
    });
    await holder.end();
  });

  it("don't stop the tick or maintenance when pg_net is not as we know it", async () => {
    await ring(context.db);
    await answerRequests(context.db);
    await context.db.superSql`alter table net._http_response rename column timed_out to late`;
    await context.db.advance(2_000);
    try {
      const [tick] = await context.db.sql`select public.trigger_queue_worker() as answer`;
      await context.db.sql`select queue.maintain()`;

      assert.equal(tick?.["answer"], "rung");
    } finally {
      await context.db.superSql`alter table net._http_response rename column late to timed_out`;
    }
  });
});
