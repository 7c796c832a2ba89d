/** explain_job: every reason why a job is not running, as a code and a sentence for people. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { backendPid } from "../support/eventually.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";

interface Reason extends Readonly<Record<string, unknown>> {
  readonly code: string;
  readonly message: string;
}

interface Explanation {
  readonly job_id: string;
  readonly status: string | null;
  readonly reasons: readonly Reason[];
}

describeOnEachServer("explain_job", (context) => {
  async function explain(id: string): Promise<Explanation> {
    const [row] = await context.db.sql<{ why: Explanation }[]>`
      select public.explain_job(${id}) as why`;
    return only(row).why;
  }
  const codes = (why: Explanation) => why.reasons.map(({ code }) => code);
  const reason = (why: Explanation, code: string): Reason =>
    why.reasons.find((one) => one.code === code) ??
    assert.fail(`${code} is not among ${JSON.stringify(why)}`);

  /** A live worker for a type, so that its absence is no reason. */
  async function serve(type: string, { queues = null }: { queues?: string[] | null } = {}) {
    await context.db.sql`
      select queue.register_worker(${`server of ${type}`}, null, ${queues}, ${[type]})`;
  }

  it("says who holds a pending job that an open transaction names as a parent", async () => {
    const { enqueue } = rigOf(context.db);
    await serve("held");
    const id = await enqueue("held");
    const session = context.db.connect({ max: 1 });
    await session`begin`;
    await session`select public.enqueue_job('held', p_depends_on => array[${id}]::bigint[])`;
    const pid = await backendPid(session);

    const during = await explain(id);
    await session`rollback`;
    await session.end();

    assert.deepEqual([codes(during), reason(during, "held")["pid"]], [["held"], pid]);
    assert.deepEqual(codes(await explain(id)), ["waiting_its_turn"]);
  });

  it("says that nobody knows the job", async () => {
    const why = await explain("999999999");

    assert.deepEqual([why.job_id, why.status, codes(why)], ["999999999", null, ["unknown"]]);
  });

  it("says that no live worker serves the type", async () => {
    const { enqueue } = rigOf(context.db);

    const why = await explain(await enqueue("unserved", { queue: "line" }));

    assert.deepEqual([why.status, codes(why)], ["pending", ["no_live_worker"]]);
    assert.equal(
      reason(why, "no_live_worker").message,
      "No live worker for its type unserved on the queue line.",
    );
  });

  it("no longer counts a worker that gave no sign of life, or signed out", async () => {
    const { enqueue, sql } = rigOf(context.db);
    const id = await enqueue("served");
    await serve("served");
    const alive = await explain(id);
    await context.db.advance(61_000);
    const silent = await explain(id);
    await serve("served");
    await sql`select queue.unregister_worker(id) from queue.workers where name = 'server of served'`;
    const gone = await explain(id);

    assert.deepEqual([alive, silent, gone].map(codes), [
      ["waiting_its_turn"],
      ["no_live_worker"],
      ["no_live_worker"],
    ]);
  });

  it("counts no worker of other types or other queues", async () => {
    const { enqueue } = rigOf(context.db);
    const id = await enqueue("mine", { queue: "my-line" });
    await serve("not-mine");
    const otherType = await explain(id);
    await serve("mine", { queues: ["your-line"] });
    const otherQueue = await explain(id);
    await serve("mine", { queues: ["my-line"] });
    const right = await explain(id);

    assert.deepEqual([otherType, otherQueue, right].map(codes), [
      ["no_live_worker"],
      ["no_live_worker"],
      ["waiting_its_turn"],
    ]);
  });

  it("counts whoever asks by get_next_job as a live worker", async () => {
    const { enqueue, claim } = rigOf(context.db);
    await claim("simple", { worker: "a curl in a loop" });

    const why = await explain(await enqueue("simple"));

    assert.deepEqual(codes(why), ["waiting_its_turn"]);
  });

  it("says how many jobs of its queue come first", async () => {
    const { enqueue } = rigOf(context.db);
    await serve("turn");
    const first = await enqueue("turn");
    await enqueue("turn", { priority: "high" });
    await enqueue("turn", { priority: "low" });
    const last = await enqueue("turn");

    const [ofFirst, ofLast] = [await explain(first), await explain(last)];

    assert.equal(reason(ofFirst, "waiting_its_turn")["ahead"], 1);
    assert.equal(reason(ofLast, "waiting_its_turn")["ahead"], 2);
    assert.match(reason(ofLast, "waiting_its_turn").message, /^2 jobs of its queue come first/);
  });

  it("says that it is next", async () => {
    const { enqueue } = rigOf(context.db);
    await serve("next");

    const why = await explain(await enqueue("next"));

    assert.deepEqual([why.status, codes(why)], ["pending", ["waiting_its_turn"]]);
    assert.equal(reason(why, "waiting_its_turn").message, "It is next in its queue.");
  });

  it("says when a scheduled job is due", async () => {
    const { enqueue, inMs } = rigOf(context.db);
    await serve("later");
    const scheduledAt = await inMs(90_000);

    const why = await explain(await enqueue("later", { scheduledAt }));

    assert.deepEqual([why.status, codes(why)], ["scheduled", ["not_due"]]);
    const { message, due_at } = reason(why, "not_due");
    assert.equal(new Date(String(due_at)).getTime(), scheduledAt.getTime());
    assert.match(message, /^It is due at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(in 00:01:\d\d\)\.$/);
  });

  it("says of a retry what the last attempt failed of", async () => {
    const { start, fail } = rigOf(context.db);
    await serve("retried");
    const held = await start("retried");
    await fail(held, "no route to host", { after: 60 });

    const why = await explain(held.id);

    assert.match(reason(why, "not_due").message, /, after attempt 1 failed: no route to host\.$/);
  });

  it("says by which jobs it is blocked, and how they stand", async () => {
    const { enqueue, start, bury } = rigOf(context.db);
    await serve("child");
    const running = await start("parent");
    const pending = await enqueue("parent");
    await bury("unrelated");

    const why = await explain(await enqueue("child", { dependsOn: [running.id, pending] }));

    assert.deepEqual([why.status, codes(why)], ["blocked", ["blocked"]]);
    const { message, blocked_by } = reason(why, "blocked");
    assert.deepEqual(blocked_by, [running.id, pending]);
    assert.equal(
      message,
      `It waits for 2 other jobs: ${running.id} (processing), ${pending} (pending).`,
    );
  });

  it("names five of many parents and lists all", async () => {
    const { enqueue } = rigOf(context.db);
    const parents: string[] = [];
    for (const _ of [1, 2, 3, 4, 5, 6]) parents.push(await enqueue("crowd"));

    const { message, blocked_by } = reason(
      await explain(await enqueue("child", { dependsOn: parents })),
      "blocked",
    );

    assert.deepEqual(blocked_by, parents);
    assert.match(message, /^It waits for 6 other jobs: (\d+ \(pending\), ){5}…\.$/);
  });

  it("says who is processing it, and until when", async () => {
    const { start } = rigOf(context.db);
    const held = await start("running", {}, { worker: "ann", seconds: 120 });

    const why = await explain(held.id);

    assert.deepEqual([why.status, codes(why)], ["processing", ["processing"]]);
    const { worker_id, lease_id, lease_expires_at, message } = reason(why, "processing");
    assert.deepEqual([worker_id, lease_id], ["ann", held.lease_id]);
    assert.equal(new Date(String(lease_expires_at)).getTime(), held.lease_expires_at.getTime());
    assert.match(
      message,
      /^Worker ann is processing it; its lease runs until \d\d:\d\d:\d\d UTC\.$/,
    );
  });

  it("says that the lease of its worker ran out", async () => {
    const { start } = rigOf(context.db);
    const held = await start("late", {}, { worker: "bob", seconds: 1 });
    await context.db.advance(5000);

    const why = await explain(held.id);

    assert.match(
      reason(why, "processing").message,
      /^The lease of worker bob ran out at .*; the next clean-up takes the job back\.$/,
    );
  });

  it("says that a running job was asked to stop", async () => {
    const { start, sql } = rigOf(context.db);
    const held = await start("stopped");
    await sql`select public.cancel_job(${held.id})`;

    const why = await explain(held.id);

    assert.deepEqual(codes(why), ["processing", "cancel_requested"]);
  });

  it("says that its queue is paused, since when and why, and what else holds it", async () => {
    const { enqueue, inMs, sql } = rigOf(context.db);
    const id = await enqueue("held", { scheduledAt: await inMs(60_000) });
    await sql`select public.pause_queue('held', 'provider is down')`;

    const why = await explain(id);

    assert.deepEqual(codes(why), ["not_due", "queue_paused", "no_live_worker"]);
    assert.match(
      reason(why, "queue_paused").message,
      /^The queue held has been paused since \d{4}.* UTC: provider is down\.$/,
    );
  });

  it("says of an ended job how and when it ended", async () => {
    const { start, complete, bury, enqueue, sql } = rigOf(context.db);
    const completed = await start("ended");
    await complete(completed);
    const failed = await bury("ended", {}, "card declined");
    const cancelled = await enqueue("ended");
    await sql`select public.cancel_job(${cancelled}, 'ordered twice')`;

    const all = [await explain(completed.id), await explain(failed), await explain(cancelled)];

    assert.deepEqual(all.map(codes), [["finished"], ["finished"], ["finished"]]);
    assert.deepEqual(
      all.map((why) => [
        why.status,
        reason(why, "finished").message.replace(/\d{4}.*UTC/, "(then)"),
      ]),
      [
        ["completed", "It completed at (then)."],
        ["failed", "It failed for good at (then): card declined."],
        ["cancelled", "It was cancelled at (then): ordered twice."],
      ],
    );
  });

  it("never comes without a reason, whatever the status", async () => {
    const rows = await context.db.sql`
      select status, public.explain_job(id) as why from public.job_queue`;

    assert.deepEqual(
      rows.filter((row) => row["why"].reasons.length === 0 || row["why"].status !== row["status"]),
      [],
    );
    assert.equal(new Set(rows.map((row) => row["status"])).size, 7);
  });
});
