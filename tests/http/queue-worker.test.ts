/** The worker that is called over HTTP, on a real database; functions are a real HTTP server. */
import assert from "node:assert/strict";
import { after, before, beforeEach, it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import {
  createQueueWorker,
  defineJob,
  implement,
  type QueueWorker,
  type QueueWorkerOptions,
  type RunReport,
} from "../../src/http/index.ts";
import { createQueue, type Queue, silentLogger } from "../../src/index.ts";
import { rigOf } from "../sql/rig.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { type FunctionServer, reply, startFunctionServer } from "./function-server.ts";

const SERVICE = "service-role-key";
const DOORBELL = "doorbell-token";
const ADDRESS = "http://worker.test/functions/v1/queue-worker";

describeWithDatabase("the queue worker over HTTP", (context) => {
  let sql: Sql;
  let queue: Queue;
  let functions: FunctionServer;
  before(async () => {
    sql = connect(context.db.url, { max: 2, maxTransactions: 1, pooled: context.isPooled });
    queue = createQueue({ sql });
    functions = await startFunctionServer();
  });
  beforeEach(async () => {
    await rigOf(context.db).clear();
    functions.heard.length = 0;
    functions.answer((_call, response) => reply(response, 200, { done: true }));
  });
  after(async () => {
    await functions.close();
    await sql.close();
  });

  function workerOf(options: Partial<QueueWorkerOptions> = {}): QueueWorker {
    return createQueueWorker({
      sql,
      keys: { serviceTokens: [SERVICE], secretKeys: ["sb_secret_x"], doorbellTokens: [DOORBELL] },
      functionsUrl: functions.url,
      functionHeaders: { authorization: `Bearer ${SERVICE}` },
      callback: { url: `${ADDRESS}?action=report`, secrets: ["callback secret"] },
      logger: silentLogger,
      ...options,
    });
  }

  function post(worker: QueueWorker, query = "", body?: unknown): Promise<Response> {
    return worker.fetch(
      new Request(`${ADDRESS}${query}`, {
        method: "POST",
        headers: { authorization: `Bearer ${SERVICE}` },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      }),
    );
  }

  async function run(worker: QueueWorker, query = "", body?: unknown): Promise<RunReport> {
    const response = await post(worker, query, body);
    assert.equal(response.status, 200);
    return (await response.json()) as RunReport;
  }

  it("runs jobs of all types and tenants, here or in functions, and says what it did", async () => {
    const square = defineJob<number, number>("square");
    const here = await queue.enqueue(square, 7);
    const there = await queue.enqueue(defineJob("ingest_slack"), { a: 1 }, { tenantId: "acme" });
    const named = await queue.enqueue(defineJob("generate_digest"), {});

    const report = await run(
      workerOf({ handlers: [implement(square, ({ input }) => input ** 2)] }),
    );

    assert.deepEqual(
      [report.claimed, report.completed, report.remaining, report.ended],
      [3, 3, false, "idle"],
    );
    assert.equal(await here.result(), 49);
    assert.deepEqual(await there.result(), { done: true });
    assert.deepEqual(await named.result(), { done: true });
    assert.deepEqual(functions.heard.map(({ path }) => path).sort(), [
      "/functions/v1/daily-digest",
      "/functions/v1/ingest-slack",
    ]);
  });

  it("keeps with the attempt which function was called and what it answered", async () => {
    functions.answer((_call, response) => reply(response, 500, { error: "out of ink" }));
    const { id } = await queue.enqueue(defineJob("ingest_slack", { maxRetries: 0 }), {});

    const report = await run(workerOf());

    assert.equal(report.failed, 1);
    const [row] = await context.db.superSql`
      select error ->> 'message' as message, note from queue.runs where job_id = ${id}`;
    assert.equal(row?.["message"], "Function execution failed: out of ink. Check function logs.");
    const { duration_ms: duration, ...note } = row?.["note"] ?? {};
    assert.deepEqual(note, { function: "ingest-slack", status: 500 });
    assert.ok(duration >= 0);
  });

  it("serves one type, or one tenant, when asked to", async () => {
    const [a, b] = [defineJob("ingest_slack"), defineJob("ingest_microsoft")];
    await queue.enqueue(a, {}, { tenantId: "one" });
    await queue.enqueue(a, {}, { tenantId: "two" });
    await queue.enqueue(b, {}, { tenantId: "one" });
    const worker = workerOf();

    const byType = await run(worker, "?type=ingest_microsoft&batch=10");
    const byTenant = await run(worker, "", { tenantId: "two" });
    const stranger = await run(worker, "", { tenantId: "nobody" });
    const rest = await run(worker);

    assert.deepEqual(
      [byType, byTenant, stranger, rest].map(({ completed }) => completed),
      [1, 1, 0, 1],
    );
  });

  it("takes at most so many jobs of each tenant in a run, and says that more are there", async () => {
    const job = defineJob("ingest_slack");
    for (const tenantId of ["big", "big", "big", "big", "big", "small"]) {
      await queue.enqueue(job, {}, { tenantId });
    }
    for (let n = 0; n < 4; n += 1) await queue.enqueue(job, {});
    const worker = workerOf();

    const first = await run(worker, "?maxJobs=3");

    assert.deepEqual([first.completed, first.remaining, first.ended], [7, true, "share"]);
    const second = await run(worker, "", { maxJobs: 3 });
    assert.deepEqual([second.completed, second.remaining, second.ended], [3, false, "idle"]);
  });

  it("leaves a type to others that they serve, or that a route turns off", async () => {
    const elsewhere = defineJob("render_page");
    const off = defineJob("print_page");
    await queue.enqueue(elsewhere, {});
    await queue.enqueue(off, {});
    await context.db
      .superSql`select queue.register_worker('long', '{}', null, array['render_page'])`;
    await context.db.superSql`select public.set_job_route('print_page', p_enabled => false)`;

    const report = await run(workerOf());
    await context.db.superSql`update queue.workers set is_registered = false`;
    await context.db.superSql`select public.remove_job_route('print_page')`;
    const later = await run(workerOf());

    assert.deepEqual([report.claimed, later.completed], [0, 2]);
  });

  it("follows the routes of the database, with headers from its environment", async () => {
    const { url } = functions;
    await context.db.superSql`
      select public.set_job_route('bill', p_url => ${`${url}/elsewhere/billing`},
        p_headers => '{"x-key": {"env": "BILLING_KEY"}, "x-plain": "yes"}', p_method => 'PUT')`;
    await context.db.superSql`
      select public.set_job_route('bill', p_function => 'bill-vip', p_tenants => array['vip'])`;
    const job = defineJob("bill");
    await queue.enqueue(job, {}, { tenantId: "vip" });
    await queue.enqueue(job, {}, { tenantId: "other" });

    await run(workerOf({ env: (name) => (name === "BILLING_KEY" ? "sesame" : undefined) }));

    const calls = new Map(functions.heard.map((call) => [call.path, call.headers]));
    const other = calls.get("/functions/v1/elsewhere/billing");
    assert.deepEqual([other?.["x-key"], other?.["x-plain"]], ["sesame", "yes"]);
    // Credentials of the project go to its own functions only.
    assert.equal(other?.authorization, undefined);
    assert.equal(calls.get("/functions/v1/bill-vip")?.authorization, `Bearer ${SERVICE}`);
  });

  it("believes a function that answers 202 and reports the end later", async () => {
    const worker = workerOf();
    const job = defineJob("ingest_slack");
    const [one, two] = [await queue.enqueue(job, {}), await queue.enqueue(job, {})];
    const callbacks: Record<string, { url: string; token: string }> = {};
    functions.answer((call, response) => {
      const { id, callback } = JSON.parse(call.body);
      callbacks[id] = callback;
      response.writeHead(202).end();
    });
    const tell = (id: string, body: unknown, token = callbacks[id]?.token): Promise<Response> =>
      worker.fetch(
        new Request(callbacks[id]?.url ?? "", {
          method: "POST",
          headers: { authorization: `Bearer ${token}` },
          body: JSON.stringify(body),
        }),
      );

    const report = await run(worker);

    assert.deepEqual([report.handed_over, report.completed, report.lost], [2, 0, 0]);
    assert.equal((await queue.get(one)).status, "processing");
    assert.equal((await tell(one.id, { report: "progress", percent: 40 })).status, 200);
    assert.equal((await tell(one.id, { report: "extend", seconds: 60 })).status, 200);
    assert.equal((await tell(one.id, { report: "complete", result: { n: 1 } })).status, 200);
    assert.deepEqual(await one.result(), { n: 1 });
    assert.equal((await tell(one.id, { report: "complete" })).status, 409);
    assert.equal(
      (await tell(two.id, { report: "complete" }, callbacks[one.id]?.token)).status,
      409,
    );
    assert.equal((await tell(two.id, { report: "complete" }, "1.2.x")).status, 401);
    const failed = await tell(two.id, { report: "fail", error: "no\u0000ink", retryable: false });
    assert.equal(failed.status, 200);
    assert.equal((await queue.get(two)).status, "failed");
  });

  it("says at once when a function answers 202 that can't report", async () => {
    const { id } = await queue.enqueue(defineJob("ingest_slack"), {});
    functions.answer((_call, response) => response.writeHead(202).end());

    const report = await run(workerOf({ callback: { url: ADDRESS, secrets: [] } }));

    assert.deepEqual([report.failed, report.handed_over], [1, 0]);
    const [row] = await context.db.superSql`
      select error ->> 'message' as message from queue.runs where job_id = ${id}`;
    assert.match(row?.["message"], /nowhere to report.*QUEUE_CALLBACK_SECRET/);
  });

  it("tries a job again whose function never reports, and charges it", async () => {
    const job = defineJob("ingest_slack", { maxRetries: 0 });
    const [one] = [await queue.enqueue(job, {}), await queue.enqueue(job, {})];
    functions.answer((_call, response) => response.writeHead(202).end());
    await run(workerOf({ reportMs: 60_000 }));

    await context.db.advance(61_000);
    await context.db.superSql`select public.cleanup_stuck_jobs()`;

    const { status } = await queue.get(one);
    assert.equal(status, "failed");
  });

  it("begins nothing that does not fit into the time that is left", async () => {
    const slow = defineJob("take_long");
    const { id } = await queue.enqueue(slow, {});
    await run(workerOf());
    // From what they usually take it is known that they don't fit.
    await context.db.superSql`
      update queue.runs set started_at = finished_at - interval '20 seconds' where job_id = ${id}`;
    await queue.enqueue(slow, {});
    await queue.enqueue(defineJob("generate_digest"), {});

    const report = await run(workerOf({ lifeMs: 10_000 }));

    assert.deepEqual([report.completed, report.remaining], [1, true]);
  });

  it("gives back what runs when the isolate ends, with its attempt", async () => {
    const job = defineJob("ingest_slack");
    const { id } = await queue.enqueue(job, {});
    let called: () => void = () => undefined;
    const isCalled = new Promise<void>((resolve) => {
      called = resolve;
    });
    functions.answer(() => called());
    const worker = workerOf();
    const running = run(worker);
    await isCalled;

    await worker.release();

    const report = await running;
    assert.deepEqual([report.released, report.ended, report.remaining], [1, "stopped", true]);
    const [row] = await context.db.superSql`select attempt from queue.ready where id = ${id}`;
    assert.equal(row?.["attempt"], 0);
  });

  it("answers a ring at once, works on, and lets further rings join", async () => {
    const job = defineJob("ingest_slack");
    await queue.enqueue(job, {});
    const kept: Promise<unknown>[] = [];
    const worker = workerOf({ waitUntil: (work) => kept.push(work) });
    const ring = (): Promise<Response> =>
      worker.fetch(
        new Request(ADDRESS, {
          method: "POST",
          headers: { authorization: `Bearer ${DOORBELL}` },
          body: '{"action":"process","type":null,"batch":5,"async":true}',
        }),
      );

    const [first, second] = [await ring(), await ring()];

    assert.deepEqual([first.status, second.status], [202, 202]);
    assert.deepEqual(await second.json(), { accepted: true, joined: true });
    await Promise.all(kept);
    assert.equal(kept.length, 1);
    assert.equal(functions.heard.length, 1);
  });

  it("says whether it is well, and what there is to do", async () => {
    await queue.enqueue(defineJob("ingest_slack"), {}, { tenantId: "acme" });
    const worker = workerOf();
    const get = (action: string, token = SERVICE): Promise<Response> =>
      worker.fetch(
        new Request(`${ADDRESS}?action=${action}`, {
          headers: { authorization: `Bearer ${token}` },
        }),
      );

    const stats = (await (await get("stats")).json()) as {
      statuses: { pending: number };
      tenants: { name: string }[];
    };
    await run(worker);
    const health = await get("health");

    assert.deepEqual(stats.statuses.pending, 1);
    assert.equal(stats.tenants[0]?.name, "acme");
    assert.equal(health.status, 200);
    const told = (await health.json()) as { database: string; processors: { type: string }[] };
    assert.equal(told.database, "reachable");
    assert.ok(told.processors.some(({ type }) => type === "ingest_slack"));
    assert.equal((await get("stats", DOORBELL)).status, 401);
    assert.equal((await get("nonsense")).status, 404);
    assert.equal((await worker.fetch(new Request(ADDRESS, { method: "POST" }))).status, 401);
  });

  it("tells that the database is away, and no more", async () => {
    const away = connect("postgres://user:secret@127.0.0.1:1/none");
    const worker = workerOf({ sql: away });

    const response = await post(worker);

    assert.equal(response.status, 503);
    const text = await response.text();
    assert.equal(JSON.parse(text).code, "DATABASE_UNREACHABLE");
    assert.doesNotMatch(text, /secret|user/);
    await away.close();
  });
});
