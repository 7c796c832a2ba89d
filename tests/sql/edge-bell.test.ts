/**
 * The bell of the Edge worker: armed when it has run dry, taken by whatever makes a job ready, which
 * posts to it once. pg_net and Vault are stubs.
 */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { arm, isArmed, posts, reset, SECRETS } from "./edge-rig.ts";
import { rigOf } from "./rig.ts";
import { installNet, installVault, netRequests } from "./supabase-stubs.ts";

describeOnEachServer("the bell of the Edge worker", (context) => {
  before(async () => {
    // Who waits here where nobody should would wait for ever.
    await context.db.superSql.unsafe(`alter database ${context.db.name} set lock_timeout = '5s'`);
    await installNet(context.db);
    await installVault(context.db, SECRETS);
    await context.db
      .sql`select public.enqueue_job(name) from unnest(array['work', 'other']) as name`;
    await context.db.sql`update queue.types set is_public = true`;
  });
  beforeEach(() => reset(context.db));

  it("is rung by a job that comes while it is armed, with a post as the tick's", async () => {
    const { sql, enqueue } = rigOf(context.db);
    assert.equal(await arm(sql), true);

    await enqueue("work");

    assert.deepEqual(await netRequests(context.db), [
      {
        url: SECRETS.queue_worker_url,
        body: { action: "process", type: null, batch: null, async: true },
        headers: { "Content-Type": "application/json", Authorization: "Bearer a random token" },
        timeout_milliseconds: 5000,
      },
    ]);
    assert.equal(await isArmed(context.db), false);
    const [ring] = await context.db
      .superSql`select reason, request_id is not null as sent from queue.rings`;
    assert.deepEqual({ ...ring }, { reason: "enqueue", sent: true });
  });

  it("rings once, and not again until it is armed again: under load nobody rings", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await arm(sql);
    for (const _ of [1, 2, 3]) await enqueue("work");
    await context.db.advance(5_000);
    await enqueue("work");

    const busy = await posts(context.db);
    await arm(sql);
    await enqueue("other");

    assert.deepEqual([busy, await posts(context.db)], [1, 1]);
  });

  it("is armed once by many at a time, and says so to each", async () => {
    const { sql } = context.db;

    assert.deepEqual([await arm(sql), await arm(sql)], [true, true]);
    assert.equal(await isArmed(context.db), true);
  });

  it("is not rung by a future job, nor by one of a paused queue", async () => {
    const { sql, enqueue, inMs } = rigOf(context.db);
    await arm(sql);
    await enqueue("work", { scheduledAt: await inMs(60_000) });
    await sql`select public.pause_queue('other')`;
    await enqueue("other");
    const rung = await posts(context.db);
    await context.db.superSql`delete from queue.bells`;
    await sql`select public.resume_queue('other')`;

    assert.equal(rung, 0);
  });

  it("leaves the Edge worker alone where a long-lived worker serves the jobs, asleep or not", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await sql`
      with me as materialized (select (queue.register_worker('sleeper', '{}', '{work}', '{work}') ->> 'worker')::int as id)
      select queue.arm_bells(me.id, null, array(select id from queue.types where name = 'work')) from me`;
    await arm(sql);

    await enqueue("work");
    const asleep = await posts(context.db);
    await enqueue("work");
    const awake = await posts(context.db);
    await sql`select queue.unregister_worker(id) from queue.workers`;
    await enqueue("work");

    assert.deepEqual([asleep, awake, await posts(context.db)], [0, 0, 1]);
  });

  it("is armed by a tick that finds nothing to do, and taken by one that rings", async () => {
    const { sql, enqueue } = rigOf(context.db);
    const [idle] = await sql`select public.trigger_queue_worker() as answer`;
    const armed = await isArmed(context.db);
    await sql.begin(async (tx) => {
      // A job that came without a ring, as after a crash.
      await tx`delete from queue.bells`;
      await tx`select public.enqueue_job('work')`;
      await tx`insert into queue.bells values (0, 0)`;
    });
    const [rung] = await sql`select public.trigger_queue_worker() as answer`;
    await enqueue("work");

    assert.deepEqual([idle?.["answer"], armed, rung?.["answer"]], ["idle", true, "rung"]);
    assert.equal(await posts(context.db), 1);
  });

  it("is not rung for a type that a route turns off", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await arm(sql);
    await sql`select public.set_job_route('work', p_enabled => false)`;

    await enqueue("work");
    const [tick] = await sql`select public.trigger_queue_worker() as answer`;
    await sql`select public.remove_job_route('work')`;

    assert.deepEqual([await posts(context.db), tick?.["answer"]], [0, "idle"]);
  });

  it("while it is armed, is rung for what the worker could not have once a minute", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await arm(sql);
    await enqueue("work");
    const first = await posts(context.db);
    await arm(sql);
    const answers: unknown[] = [];
    for (const seconds of [10, 40, 11]) {
      await context.db.advance(seconds * 1_000);
      const [tick] = await sql`select public.trigger_queue_worker() as answer`;
      answers.push(tick?.["answer"]);
    }

    assert.equal(first, 1);
    assert.deepEqual(answers, ["idle", "idle", "rung"]);
    assert.equal(await posts(context.db), 1);
  });

  it("is rung by a tick for what falls due while it is armed", async () => {
    const { sql, enqueue, inMs } = rigOf(context.db);
    await enqueue("work");
    await arm(sql);
    await sql`select public.trigger_queue_worker()`;
    await posts(context.db);
    await rigOf(context.db).clear();
    await enqueue("work", { scheduledAt: await inMs(5_000) });
    await arm(sql);
    await context.db.advance(6_000);

    const [tick] = await sql`select public.trigger_queue_worker() as answer`;

    assert.equal(tick?.["answer"], "rung");
    assert.equal(await posts(context.db), 1);
  });

  it("is left by a tick for one type: such a run does not arm it again", async () => {
    const { sql } = rigOf(context.db);
    await context.db.sql`select public.enqueue_job('work')`;
    await arm(sql);

    const [rung] = await sql`select public.trigger_queue_worker('process', 'other') as answer`;

    assert.equal(rung?.["answer"], "rung");
    assert.equal(await isArmed(context.db), true);
  });

  it("is left by maintenance, which takes the bells of workers that are gone", async () => {
    const { sql } = context.db;
    await arm(sql);
    await sql`insert into queue.bells values (1, 999)`;

    await sql`select queue.maintain()`;

    const left = await sql`select worker_id from queue.bells`;
    assert.deepEqual(
      left.map(({ worker_id }) => worker_id),
      [0],
    );
  });

  it("is armed by the worker's role", async () => {
    assert.equal(await arm(context.db.connectAs("millrace_worker")), true);
  });

  it("is rung by an end user's job, who can read neither token nor rings", async () => {
    await arm(context.db.sql);
    const user = context.db.connectAs("authenticated", {
      sub: "u",
      app_metadata: { tenant_id: "acme" },
    });

    await user`select public.enqueue_job('work')`;

    assert.equal(await posts(context.db), 1);
    for (const look of [
      user`select from queue.rings`,
      user`select from queue.doorbell()`,
      user`select queue.post_ring('tick', null, null, null, true)`,
      user`select queue.ring_edge(null)`,
      user`select queue.arm_edge_bell()`,
      user`select from vault.decrypted_secrets`,
      user`select from net.http_request_queue`,
    ]) {
      await assert.rejects(look, { code: "42501" });
    }
  });

  it("stays armed when the enqueue is rolled back, and nothing is posted", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await arm(sql);
    await assert.rejects(
      sql.begin(async (tx) => {
        await tx`select public.enqueue_job('work')`;
        throw new Error("no");
      }),
      /no/,
    );
    const undone = [await isArmed(context.db), await posts(context.db)];

    await enqueue("work");

    assert.deepEqual(undone, [true, 0]);
    assert.equal(await posts(context.db), 1);
  });

  it("is rung once by two at a time, and neither waits", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await arm(sql);
    const first = context.db.connect({ max: 1 });

    await first.begin(async (tx) => {
      await tx`set local lock_timeout = '1s'`;
      await tx`select public.enqueue_job('work')`;
      await sql.begin(async (beside) => {
        await beside`set local lock_timeout = '1ms'`;
        await beside`select public.enqueue_job('work')`;
        await beside`select queue.arm_edge_bell()`;
        await beside`select public.trigger_queue_worker()`;
        await beside`select queue.maintain()`;
      });
    });
    await first.end();

    assert.equal(await posts(context.db), 1);
    await enqueue("work");
    assert.equal(await posts(context.db), 0);
  });

  it("is rung beside a transaction that rang and stays open, once a second at most", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await arm(sql);
    const holder = context.db.connect({ max: 1 });

    await holder.begin(async (tx) => {
      await tx`select public.enqueue_job('work')`;
      await context.db.advance(2_100);
      await enqueue("work");
      const beside = await posts(context.db);
      await enqueue("work");
      const again = await posts(context.db);
      await sql.begin(async (bulk) => {
        await bulk`select public.enqueue_job('work')`;
        await context.db.advance(2_100);
        await bulk`select public.enqueue_job('work')`;
        await context.db.advance(2_100);
        await bulk`select public.enqueue_job('work')`;
      });

      assert.deepEqual([beside, again, await posts(context.db)], [1, 0, 1]);
    });
    await holder.end();

    assert.equal(await posts(context.db), 1, "the transaction's own post, at its commit");
  });

  it("is not armed, and nobody waits, where somebody arms it in a transaction that stays open", async () => {
    const { sql } = context.db;
    const holder = context.db.connect({ max: 1 });

    await holder.begin(async (tx) => {
      await tx`select queue.arm_edge_bell()`;
      assert.equal(await arm(sql), false);
    });
    await holder.end();

    assert.equal(await arm(sql), true);
  });

  it("does not fail a repeatable read that still sees a bell that is gone", async () => {
    const { sql, enqueue } = rigOf(context.db);
    await arm(sql);
    const late = context.db.connect({ max: 1 });

    await late.begin("isolation level repeatable read", async (tx) => {
      await tx`select from queue.bells`;
      await enqueue("work");
      await tx`select public.enqueue_job('work')`;
    });
    await late.end();

    assert.equal((await sql`select from queue.ready`).length, 2);
  });
});

describeOnEachServer("the bell of the Edge worker where it can't ring", (context) => {
  before(async () => {
    await installNet(context.db);
    await installVault(context.db, SECRETS);
  });
  beforeEach(() => reset(context.db));

  it("is not armed without the extensions or the secrets", async () => {
    const { superSql } = context.db;
    const without = async (statement: string): Promise<boolean | undefined> => {
      let armed: boolean | undefined;
      await superSql
        .begin(async (tx) => {
          await tx.unsafe(statement);
          armed = await arm(tx as unknown as TestSql);
          throw new Error("take it back");
        })
        .catch(() => undefined);
      return armed;
    };

    assert.deepEqual(
      [
        await without("drop schema net cascade"),
        await without("drop schema vault cascade"),
        await without("delete from vault.secrets where name = 'queue_worker_url'"),
        await without(
          "update vault.secrets set secret = E' \\n' where name = 'queue_worker_token'",
        ),
        await without("revoke usage on schema vault from postgres"),
        await without("select 1"),
      ],
      [false, false, false, false, false, true],
    );
  });

  it("does not fail the enqueue when pg_net does; the next tick tries again, and health tells", async () => {
    const { sql, enqueue, status } = rigOf(context.db);
    await context.db.superSql.unsafe(`
      create or replace function net.http_post(
        url text, body jsonb default '{}', params jsonb default '{}', headers jsonb default '{}',
        timeout_milliseconds integer default 5000
      ) returns bigint language plpgsql as $$
      begin raise exception 'the extension is broken by %', headers; end $$`);
    await arm(sql);

    const id = await enqueue("work");
    const armed = await isArmed(context.db);
    const [ring] =
      await sql`select reason, error, finished_at is not null as is_finished from queue.rings`;
    const [health] = await sql`select public.queue_health() -> 'problems' as problems`;
    await context.db.advance(2_000);
    const [tick] = await sql`select public.trigger_queue_worker() as answer`;

    assert.equal(await status(id), "pending");
    assert.equal(armed, false, "not one attempt for each job");
    assert.match(ring?.["error"], /^the extension is broken by .*Bearer \[token\]/);
    assert.deepEqual([ring?.["reason"], ring?.["is_finished"]], ["enqueue", true]);
    assert.ok(JSON.stringify(health).includes("doorbell_failing"));
    assert.equal(tick?.["answer"], "failed");
  });
});
