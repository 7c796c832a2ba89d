/** The worker that is called over HTTP, on a real database; functions are a real HTTP server. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { connect } from "../../src/db/postgres-js.ts";
import { defineJob, implement } from "../../src/http/index.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { clockAt } from "./clock-at.ts";
import { ADDRESS, DOORBELL, SERVICE, workerRig } from "./worker-rig.ts";

describeWithDatabase("the queue worker over HTTP", (context) => {
  const rig = workerRig(context);

  it("runs jobs of all types and tenants, here or in functions, and says what it did", async () => {
    const square = defineJob<number, number>("square");
    const here = await rig.queue.enqueue(square, 7);
    const there = await rig.queue.enqueue(
      defineJob("ingest_slack"),
      { a: 1 },
      { tenantId: "acme" },
    );
    const named = await rig.queue.enqueue(defineJob("generate_digest"), {});

    const report = await rig.run(
      rig.workerOf({ handlers: [implement(square, ({ input }) => input ** 2)] }),
    );

    assert.deepEqual(
      [report.claimed, report.completed, report.remaining, report.ended],
      [3, 3, false, "idle"],
    );
    assert.equal(await here.result(), 49);
    assert.deepEqual(await there.result(), { done: true });
    assert.deepEqual(await named.result(), { done: true });
    assert.deepEqual(rig.functions.heard.map(({ path }) => path).sort(), [
      "/functions/v1/daily-digest",
      "/functions/v1/ingest-slack",
    ]);
  });

  it("serves one type, or one tenant, when asked to", async () => {
    const [a, b] = [defineJob("ingest_slack"), defineJob("ingest_microsoft")];
    await rig.queue.enqueue(a, {}, { tenantId: "one" });
    await rig.queue.enqueue(a, {}, { tenantId: "two" });
    await rig.queue.enqueue(b, {}, { tenantId: "one" });
    const worker = rig.workerOf();

    const byType = await rig.run(worker, "?type=ingest_microsoft&batch=10");
    const byTenant = await rig.run(worker, "", { tenantId: "two" });
    const stranger = await rig.run(worker, "", { tenantId: "nobody" });
    const rest = await rig.run(worker);

    assert.deepEqual(
      [byType, byTenant, stranger, rest].map(({ completed }) => completed),
      [1, 1, 0, 1],
    );
  });

  it("takes at most so many jobs of each tenant in a run, and says that more are there", async () => {
    const job = defineJob("ingest_slack");
    for (const tenantId of ["big", "big", "big", "big", "big", "small"]) {
      await rig.queue.enqueue(job, {}, { tenantId });
    }
    for (let n = 0; n < 4; n += 1) await rig.queue.enqueue(job, {});
    const worker = rig.workerOf();

    const first = await rig.run(worker, "?maxJobs=3");

    assert.deepEqual([first.completed, first.remaining, first.ended], [7, true, "share"]);
    const second = await rig.run(worker, "", { maxJobs: 3 });
    assert.deepEqual([second.completed, second.remaining, second.ended], [3, false, "idle"]);
  });

  it("leaves a type to others that they serve, or that a route turns off", async () => {
    const elsewhere = defineJob("render_page");
    const off = defineJob("print_page");
    await rig.queue.enqueue(elsewhere, {});
    await rig.queue.enqueue(off, {});
    await context.db
      .superSql`select queue.register_worker('long', '{}', null, array['render_page'])`;
    await context.db.superSql`select public.set_job_route('print_page', p_enabled => false)`;

    const report = await rig.run(rig.workerOf());
    await context.db.superSql`
      update queue.workers set is_registered = false, seen_at = seen_at - interval '2 days'`;
    await context.db.superSql`select public.remove_job_route('print_page')`;
    const later = await rig.run(rig.workerOf());

    assert.deepEqual([report.claimed, later.completed], [0, 2]);
  });

  it("follows the routes of the database, with headers from its environment", async () => {
    const { url } = rig.functions;
    await context.db.superSql`
      select public.set_job_route('bill', p_url => ${`${url}/elsewhere/billing`},
        p_headers => '{"x-key": {"env": "BILLING_KEY"}, "x-plain": "yes"}', p_method => 'PUT')`;
    await context.db.superSql`
      select public.set_job_route('bill', p_function => 'bill-vip', p_tenants => array['vip'])`;
    const job = defineJob("bill");
    await rig.queue.enqueue(job, {}, { tenantId: "vip" });
    await rig.queue.enqueue(job, {}, { tenantId: "other" });

    await rig.run(rig.workerOf({ env: (name) => (name === "BILLING_KEY" ? "sesame" : undefined) }));

    const calls = new Map(rig.functions.heard.map((call) => [call.path, call.headers]));
    const other = calls.get("/functions/v1/elsewhere/billing");
    assert.deepEqual([other?.["x-key"], other?.["x-plain"]], ["sesame", "yes"]);
    // Credentials of the project go to its own functions only.
    assert.equal(other?.authorization, undefined);
    assert.equal(calls.get("/functions/v1/bill-vip")?.authorization, `Bearer ${SERVICE}`);
  });

  it("takes ten jobs of the one tenant it was asked for, unless it is told how many", async () => {
    const job = defineJob("ingest_slack");
    for (let n = 0; n < 12; n += 1) await rig.queue.enqueue(job, {}, { tenantId: "acme" });

    const first = await rig.run(rig.workerOf(), "", { tenantId: "acme" });
    const second = await rig.run(rig.workerOf(), "", { tenantId: "acme", maxJobs: 1 });

    assert.deepEqual([first.completed, first.remaining], [10, true]);
    assert.deepEqual([second.completed, second.remaining], [1, true]);
  });

  it("refuses signing secrets that are none when it is made", () => {
    assert.throws(() => rig.workerOf({ signingSecrets: ["guess"] }), {
      code: "INVALID_SIGNING_SECRET",
    });
  });

  it("says that it is about to end when it is rung too late", async () => {
    const worker = rig.workerOf({ lifeMs: 100_000, clock: clockAt(81_000) });

    const response = await rig.post(worker, "?async=true");

    assert.equal(response.status, 503);
    assert.equal(((await response.json()) as { code: string }).code, "WORKER_SPENT");
  });

  it("begins nothing that does not fit into the time that is left", async () => {
    const slow = defineJob("take_long");
    const { id } = await rig.queue.enqueue(slow, {});
    await rig.run(rig.workerOf());
    // From what they usually take it is known that they don't fit.
    await context.db.superSql`
      update queue.runs set started_at = finished_at - interval '80 seconds' where job_id = ${id}`;
    await rig.queue.enqueue(slow, {});
    await rig.queue.enqueue(defineJob("generate_digest"), {});

    const old = await rig.run(rig.workerOf({ lifeMs: 100_000, clock: clockAt(20_000) }));
    const young = await rig.run(rig.workerOf({ lifeMs: 80_000 }));

    assert.deepEqual([old.completed, old.remaining], [1, true]);
    // What takes longer than any life is begun in a new isolate: else it never were.
    assert.deepEqual([young.completed, young.remaining], [1, false]);
  });

  it("gives back what runs when the isolate ends, with its attempt", async () => {
    const job = defineJob("ingest_slack");
    const { id } = await rig.queue.enqueue(job, {});
    let called: () => void = () => undefined;
    const isCalled = new Promise<void>((resolve) => {
      called = resolve;
    });
    rig.functions.answer(() => called());
    const worker = rig.workerOf();
    const running = rig.run(worker);
    await isCalled;

    await worker.release();

    const report = await running;
    assert.deepEqual([report.released, report.ended, report.remaining], [1, "stopped", true]);
    const [row] = await context.db.superSql`select attempt from queue.ready where id = ${id}`;
    assert.equal(row?.["attempt"], 0);
  });

  it("answers a ring at once, works on, and lets further rings join", async () => {
    const job = defineJob("ingest_slack");
    await rig.queue.enqueue(job, {});
    const kept: Promise<unknown>[] = [];
    const worker = rig.workerOf({ waitUntil: (work) => kept.push(work) });
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
    assert.equal(rig.functions.heard.length, 1);
  });

  it("says whether it is well, and what there is to do", async () => {
    await rig.queue.enqueue(defineJob("ingest_slack"), {}, { tenantId: "acme" });
    const worker = rig.workerOf();
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
    await rig.run(worker);
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
    const worker = rig.workerOf({ sql: away });

    const response = await rig.post(worker);

    assert.equal(response.status, 503);
    const text = await response.text();
    assert.equal(JSON.parse(text).code, "DATABASE_UNREACHABLE");
    assert.doesNotMatch(text, /secret|user/);
    await away.close();
  });
});
