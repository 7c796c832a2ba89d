/**
 * The doorbell of the Edge worker: trigger_queue_worker posts with pg_net when work is due. pg_net
 * and Vault are stubs here; how sleeping workers are woken by NOTIFY is told in bells.test.ts.
 */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { connect, type TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { only, rigOf } from "./rig.ts";
import { answerRequests, installNet, installVault, netRequests } from "./supabase-stubs.ts";

const SECRETS = {
  queue_worker_url: "https://project.functions.example/queue-worker",
  queue_worker_token: "a random token",
};

async function trigger(sql: TestSql): Promise<string> {
  const [row] = await sql<{ answer: string }[]>`select public.trigger_queue_worker() as answer`;
  return only(row).answer;
}

describeOnEachServer("trigger_queue_worker on a plain Postgres", (context) => {
  beforeEach(() => rigOf(context.db).clear());

  it("has nothing to ring with, and says so", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("work");

    assert.equal(await trigger(sql), "unavailable");
  });

  it("is idle where no work is due", async () => {
    assert.equal(await trigger(context.db.sql), "idle");
  });
});

describeOnEachServer("trigger_queue_worker with pg_net and Vault", (context) => {
  before(async () => {
    await installNet(context.db);
    await installVault(context.db, SECRETS);
  });
  beforeEach(async () => {
    await rigOf(context.db).clear();
    await context.db.superSql`truncate net.http_request_queue, queue.rings`;
  });

  it("posts to the worker's address with the token that is its own", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("work");

    const answer = await trigger(sql);

    assert.equal(answer, "rung");
    assert.deepEqual(await netRequests(context.db), [
      {
        url: SECRETS.queue_worker_url,
        body: { action: "process", type: null, batch: null, async: true },
        headers: { "Content-Type": "application/json", Authorization: "Bearer a random token" },
        timeout_milliseconds: 5000,
      },
    ]);
  });

  it("posts as soon as ever after the clock was set back", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("work");
    const first = await trigger(sql);
    await answerRequests(context.db);
    await context.db.advance(-3_600_000);

    const answers = [first, await trigger(sql), await trigger(sql)];

    assert.deepEqual(answers, ["rung", "rung", "coalesced"]);
    await context.db.advance(3_600_000);
  });

  it("passes on what it is asked for", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("mail");

    await sql`select public.trigger_queue_worker(p_action => 'drain', p_type => 'mail', p_batch => 20)`;

    const [request] = await netRequests(context.db);
    assert.deepEqual(request?.body, { action: "drain", type: "mail", batch: 20, async: true });
  });

  for (const [given, sent] of [
    [0, 1],
    [5_000, 1_000],
  ] as const) {
    it(`asks for no batch that the worker would refuse: ${sent} for ${given}`, async () => {
      const { sql, enqueue } = rigOf(context.db);
      await enqueue("mail");

      await sql`select public.trigger_queue_worker(p_batch => ${given})`;

      const [request] = await netRequests(context.db);
      assert.equal((only(request).body as { batch: number }).batch, sent);
    });
  }

  it("rings when a scheduled job is due, and not before", async () => {
    const { sql, enqueue, inMs } = rigOf(context.db);
    await enqueue("later", { scheduledAt: await inMs(60_000) });

    const early = await trigger(sql);
    await context.db.advance(61_000);
    const due = await trigger(sql);

    assert.deepEqual([early, due], ["idle", "rung"]);
  });

  it("rings when a lease ran out, and not while its worker has time", async () => {
    const { sql, start } = rigOf(context.db);
    await start("slow", {}, { seconds: 60 });

    const early = await trigger(sql);
    await context.db.advance(61_000);
    const late = await trigger(sql);

    assert.deepEqual([early, late], ["idle", "rung"]);
  });

  it("does not ring for jobs of a paused queue", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("paused");
    await sql`select public.pause_queue('paused')`;

    const paused = await trigger(sql);
    await context.db.superSql`delete from queue.bells`;
    await sql`select public.resume_queue('paused')`;
    const resumed = await trigger(sql);

    assert.deepEqual([paused, resumed], ["idle", "rung"]);
  });

  it("posts once a second at most, whoever calls", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("work");

    const crowd = await Promise.all(Array.from({ length: 8 }, () => trigger(sql)));
    await answerRequests(context.db);
    const early = await sql.begin(async (tx) => {
      await tx`update queue.rings set at = queue.clock() - interval '0.3 seconds'`;
      return trigger(tx as unknown as TestSql);
    });
    await context.db.advance(2_100);
    const late = await trigger(sql);

    assert.deepEqual(crowd.sort(), [...Array<string>(7).fill("coalesced"), "rung"]);
    assert.deepEqual([early, late], ["coalesced", "rung"]);
    assert.equal((await netRequests(context.db)).length, 1);
  });

  it("does not wait for a caller that rang and stays open, and rings beside it after two seconds", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("work");
    const holder = context.db.connect({ max: 1 });

    await holder.begin(async (tx) => {
      const first = await trigger(tx as unknown as TestSql);
      const beside = await trigger(sql);
      await context.db.advance(2_100);
      const later = await trigger(sql);

      assert.deepEqual([first, beside, later], ["rung", "coalesced", "rung"]);
    });
    await holder.end();
  });

  it("adds nothing to a post that pg_net has not sent yet, however long that takes", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("work");

    const first = await trigger(sql);
    await context.db.advance(60_000);
    const unsent = await trigger(sql);
    await answerRequests(context.db);
    const sent = await trigger(sql);

    assert.deepEqual([first, unsent, sent], ["rung", "coalesced", "rung"]);
  });

  it("posts again at the next tick when the worker answered with an error", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("work");

    await trigger(sql);
    await answerRequests(context.db, { status: 500 });
    await context.db.advance(2_000);

    assert.equal(await trigger(sql), "rung");
  });

  it("posts nothing when the caller's transaction is rolled back", async () => {
    const { sql } = rigOf(context.db);
    await assert.rejects(
      sql.begin(async (tx) => {
        await tx`select public.enqueue_job('undone')`;
        await tx`select public.trigger_queue_worker()`;
        throw new Error("no");
      }),
      /no/,
    );

    assert.deepEqual(await netRequests(context.db), []);
  });

  it("can be rung by the worker's role, which can't read the secrets itself", async () => {
    await rigOf(context.db).enqueue("work");
    const worker = context.db.connectAs("millrace_worker");

    const answer = await trigger(worker);

    assert.equal(answer, "rung");
    await assert.rejects(worker`select from vault.decrypted_secrets`, { code: "42501" });
  });

  it("is unconfigured without an address or without a token", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("work");

    const answers = await context.db.superSql
      .begin(async (tx) => {
        await tx`delete from vault.secrets where name = 'queue_worker_token'`;
        const tokenless = await trigger(tx as unknown as TestSql);
        await tx`delete from vault.secrets`;
        await tx`insert into vault.secrets values ('queue_worker_token', 'x')`;
        const homeless = await trigger(tx as unknown as TestSql);
        throw Object.assign(new Error("take it back"), { answers: [tokenless, homeless] });
      })
      .catch((error: Error & { answers?: string[] }) => error.answers ?? Promise.reject(error));

    assert.deepEqual(answers, ["unconfigured", "unconfigured"]);
    assert.equal(await trigger(sql), "rung");
  });
});

describeOnEachServer("trigger_queue_worker when pg_net fails", (context) => {
  before(async () => {
    await installNet(context.db);
    await installVault(context.db, SECRETS);
    await context.db.superSql.unsafe(`
      alter table net.http_request_queue add constraint broken check (url is null)`);
  });
  beforeEach(async () => {
    await rigOf(context.db).clear();
    await context.db.superSql`truncate queue.rings`;
  });

  it("answers so and lets its caller go on: a job in the queue is worth more than a ring", async () => {
    const { sql, status } = rigOf(context.db);

    const [row] = await sql.begin(async (tx) => {
      const [made] = await tx<{ id: string }[]>`select public.enqueue_job('kept') as id`;
      return tx`select public.trigger_queue_worker() as answer, ${only(made).id} as id`;
    });

    assert.equal(row?.["answer"], "failed");
    assert.equal(await status(row?.["id"]), "pending");
  });

  it("answers so in a transaction that may only read", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await enqueue("kept");

    const answer = await sql.begin("read only", (tx) => trigger(tx as unknown as TestSql));

    assert.equal(answer, "failed");
  });

  it("warns the caller, and tells nobody the token", async () => {
    await rigOf(context.db).enqueue("kept");
    const warnings: string[] = [];
    const onnotice = (notice: unknown) => warnings.push(JSON.stringify(notice));
    const session = connect(context.db.superUrl, { max: 1, onnotice });

    await trigger(session);
    await session.end();

    assert.equal(warnings.length, 1);
    assert.match(only(warnings[0]), /queue worker was not triggered: .*broken/);
    assert.doesNotMatch(only(warnings[0]), /a random token/);
  });
});
