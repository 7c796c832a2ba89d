/**
 * How much end users may enqueue: open jobs and jobs a minute, for each tenant. What other callers do
 * is neither counted nor held up.
 */
import assert from "node:assert/strict";
import { before, beforeEach, it } from "node:test";
import { withRace } from "../races/race.ts";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { signIn } from "./end-users.ts";
import { only, refusal, rigOf } from "./rig.ts";

interface Quota {
  readonly openJobs?: number | undefined;
  readonly perMinute?: number | undefined;
}

const QUOTAS_OF_ONE: readonly Quota[] = [{ openJobs: 1 }, { perMinute: 1 }];

async function setQuota(sql: TestSql, { openJobs, perMinute }: Quota): Promise<void> {
  await sql`update queue.settings
    set user_max_open_jobs = ${openJobs ?? null}, user_jobs_per_minute = ${perMinute ?? null}`;
}

/** Every test begins with tenants that enqueued nothing, a public type "open", and no quota. */
async function begin(sql: TestSql): Promise<void> {
  await setQuota(sql, {});
  await sql`update queue.tenants set user_max_open_jobs = null, user_jobs_per_minute = null`;
  await sql`delete from queue.user_jobs`;
  await sql`delete from queue.user_quotas`;
  await sql`insert into queue.types (name, is_public) values ('open', true) on conflict do nothing`;
}

const many = (sql: TestSql, n: number) =>
  sql`select * from public.enqueue_jobs((
    select jsonb_agg('{"type": "open"}'::jsonb) from generate_series(1, ${n}::integer)))`;

describeOnEachServer("of open jobs a tenant's users", (context) => {
  let ann: TestSql;
  let bob: TestSql;
  before(() => {
    ann = signIn(context.db, "acme", "bolt");
    bob = signIn(context.db, "bolt", "acme");
  });
  beforeEach(async () => {
    await begin(context.db.sql);
    await rigOf(context.db).clear();
  });

  it("may have a thousand where nobody said otherwise", async () => {
    const [row] = await context.db.sql<{ standard: string }[]>`
      select column_default as standard from information_schema.columns
      where table_schema = 'queue' and table_name = 'settings' and column_name = 'user_max_open_jobs'`;

    assert.equal(only(row).standard, "1000");
  });

  it("enqueue up to the limit, and are told the limit when they want more", async () => {
    await setQuota(context.db.sql, { openJobs: 2 });
    const { enqueue } = rigOf(context.db, ann);
    await enqueue("open");
    await enqueue("open");

    const refused = await refusal(enqueue("open"));

    assert.equal(refused.code, "MR016");
    assert.equal(refused.message, "quota exceeded: at most 2 open jobs");
    assert.ok(refused.hint);
    assert.equal((await ann`select from public.job_queue where status = 'pending'`).length, 2);
  });

  it("are counted with every job of a call for many", async () => {
    await setQuota(context.db.sql, { openJobs: 5 });
    await many(ann, 3);

    const refused = await refusal(many(ann, 3));
    await many(ann, 2);

    assert.equal(refused.code, "MR016");
    assert.equal((await ann`select from public.job_queue where status = 'pending'`).length, 5);
  });

  it("are counted with every payload of a call for jobs that are alike", async () => {
    await setQuota(context.db.sql, { openJobs: 5 });

    const refused = await refusal(ann`select queue.enqueue_alike('open', '[1, 2, 3, 4, 5, 6]')`);
    await ann`select queue.enqueue_alike('open', '[1, 2, 3, 4, 5]')`;
    const again = await refusal(rigOf(context.db, ann).enqueue("open"));

    assert.deepEqual([refused.code, again.code], ["MR016", "MR016"]);
  });

  it("are counted with jobs that wait for others", async () => {
    await setQuota(context.db.sql, { openJobs: 2 });
    const { enqueue } = rigOf(context.db, ann);
    const parent = await enqueue("open");
    await enqueue("open", { dependsOn: [parent] });

    assert.equal((await refusal(enqueue("open", { dependsOn: [parent] }))).code, "MR016");
  });

  for (const end of ["completed", "failed", "cancelled"] as const) {
    it(`have room again when a job is ${end}`, async () => {
      await setQuota(context.db.sql, { openJobs: 1 });
      const worker = rigOf(context.db);
      const user = rigOf(context.db, ann);
      const id = await user.enqueue("open");
      const full = await refusal(user.enqueue("open"));

      if (end === "cancelled") await worker.sql`select public.cancel_job(${id})`;
      else
        await worker.settle(await worker.take("open"), {
          outcome: end,
          detail: { retryable: false },
        });
      await user.enqueue("open");

      assert.equal(full.code, "MR016");
      assert.equal((await refusal(user.enqueue("open"))).code, "MR016");
    });
  }

  it("have no room while a job runs, or waits for its retry", async () => {
    await setQuota(context.db.sql, { openJobs: 1 });
    const worker = rigOf(context.db);
    const user = rigOf(context.db, ann);
    await user.enqueue("open");
    const job = await worker.take("open");

    const running = await refusal(user.enqueue("open"));
    await worker.fail(job, "try again");
    const retrying = await refusal(user.enqueue("open"));

    assert.deepEqual([running.code, retrying.code], ["MR016", "MR016"]);
  });

  it("get their job again by its key however full it is, and pay for it once", async () => {
    await setQuota(context.db.sql, { openJobs: 2 });
    const { enqueue } = rigOf(context.db, ann);
    const first = await enqueue("open", { key: "once" });
    await enqueue("open", { key: "once" });
    await enqueue("open");

    const again = await enqueue("open", { key: "once" });
    const rows = await ann<{ outcome: string }[]>`select outcome from public.enqueue_jobs(
      '[{"type": "open", "idempotency_key": "once"}, {"type": "open", "idempotency_key": "once"}]')`;

    assert.equal(again, first);
    assert.deepEqual(
      rows.map(({ outcome }) => outcome),
      ["existing", "existing"],
    );
  });

  it("are held to the limit of their own tenant, which may be more, less or none", async () => {
    const { sql } = context.db;
    await setQuota(sql, { openJobs: 1 });
    await sql`insert into queue.tenants (name) values ('acme'), ('bolt') on conflict do nothing`;
    await sql`update queue.tenants set user_max_open_jobs = case name when 'acme' then 3 else 0 end`;

    await many(ann, 3);
    const full = await refusal(many(ann, 1));
    const shut = await refusal(many(bob, 1));

    assert.deepEqual(
      [full.message, shut.message].map((text) => text.replace(/^.*at most /, "")),
      ["3 open jobs", "0 open jobs"],
    );
  });

  it("are not held up by what others have, nor by what services enqueue for them", async () => {
    await setQuota(context.db.sql, { openJobs: 1 });
    await many(bob, 1);
    const service = rigOf(context.db, context.db.connectAs("service_role"));
    await service.enqueue("open", { tenant: "acme" });
    await service.enqueue("open", { tenant: "acme" });

    await many(ann, 1);

    assert.equal((await refusal(many(ann, 1))).code, "MR016");
    assert.equal((await context.db.sql`select from queue.user_jobs`).length, 2);
  });

  it("leave no trace in the books where there is no quota", async () => {
    await many(ann, 3);

    const rows = await context.db.sql`
      select tenant_id from queue.user_jobs union all select tenant_id from queue.user_quotas`;
    assert.equal(rows.length, 0);
  });
});

describeOnEachServer("in a minute a tenant's users", (context) => {
  let ann: TestSql;
  before(() => {
    ann = signIn(context.db, "acme", "bolt");
  });
  beforeEach(() => begin(context.db.sql));

  it("enqueue up to the limit, are told when to try again, and then may", async () => {
    await setQuota(context.db.sql, { perMinute: 3 });
    await many(ann, 2);
    await context.db.advance(50_000);
    await many(ann, 1);

    const refused = await refusal(many(ann, 1));
    await context.db.advance(10_000);
    await many(ann, 3);

    assert.equal(refused.code, "MR016");
    assert.equal(refused.message, "quota exceeded: at most 3 jobs a minute");
    assert.match(refused.hint ?? "", /^Try again in ([1-9]|10) s\.$/);
  });

  it("are told so whatever has ended meanwhile", async () => {
    await setQuota(context.db.sql, { perMinute: 1, openJobs: 5 });
    const { complete, take } = rigOf(context.db);
    await many(ann, 1);
    await complete(await take("open"));

    assert.equal((await refusal(many(ann, 1))).message, "quota exceeded: at most 1 jobs a minute");
  });

  it("are not charged for a call that was refused or rolled back", async () => {
    await setQuota(context.db.sql, { perMinute: 2 });
    await refusal(many(ann, 3));
    await refusal(
      ann.begin(async (tx) => {
        await tx`select public.enqueue_job('open')`;
        await tx`select 1 / 0`;
      }),
    );

    await many(ann, 2);
  });
});

describeOnEachServer(
  "two users of one tenant at the same time",
  (context) => {
    beforeEach(() => begin(context.db.sql));

    async function signInSession(session: TestSql, isolation = "read committed"): Promise<void> {
      await session.unsafe(`begin isolation level ${isolation}`);
      await session`set local role authenticated`;
      await session`select set_config('request.jwt.claims', '{"app_metadata": {"tenant_id": "acme"}}', true)`;
    }
    const one = (session: TestSql) => session`select public.enqueue_job('open')`;

    for (const quota of QUOTAS_OF_ONE) {
      const what = JSON.stringify(quota);
      it(`can't pass a quota of one: ${what}`, () =>
        withRace(context.db, async ({ ann, bob, untilItWaits }) => {
          await setQuota(context.db.sql, quota);
          await signInSession(ann);
          await signInSession(bob);
          await one(ann);

          const late = await untilItWaits(bob, one(bob));
          await ann`commit`;

          assert.equal((await refusal(late.answer)).code, "MR016");
        }));

      it(`leave the place to the other when the first takes its job back: ${what}`, () =>
        withRace(context.db, async ({ ann, bob, untilItWaits }) => {
          await setQuota(context.db.sql, quota);
          await many(signIn(context.db, "acme", "bolt"), 1);
          await context.db.sql`delete from queue.user_jobs`;
          await context.db.advance(60_000);
          await signInSession(ann);
          await signInSession(bob);
          await one(ann);

          const late = await untilItWaits(bob, one(bob));
          await ann`rollback`;

          assert.equal((await late.answer).length, 1);
        }));

      it(`fail to serialize where the second can't see the first's job: ${what}`, () =>
        withRace(context.db, async ({ ann, bob }) => {
          await setQuota(context.db.sql, {
            openJobs: quota.openJobs && 2,
            perMinute: quota.perMinute && 2,
          });
          await many(signIn(context.db, "acme", "bolt"), 1);
          await signInSession(bob, "repeatable read");
          await bob`select from queue.types`;
          await signInSession(ann);
          await one(ann);
          await ann`commit`;

          assert.equal((await refusal(one(bob))).code, "40001");
        }));
    }

    it("don't wait for each other where there is no quota", () =>
      withRace(context.db, async ({ ann, bob }) => {
        await many(signIn(context.db, "acme", "bolt"), 1);
        await signInSession(ann);
        await signInSession(bob);
        await bob`set local lock_timeout = '100ms'`;
        await one(ann);

        assert.equal((await one(bob)).length, 1);
      }));
  },
  { pooler: false },
);
