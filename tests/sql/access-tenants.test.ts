/**
 * Signed-in end users: what they may enqueue, and that each sees its own tenant's jobs and nothing
 * of anybody else's. The tenant is app_metadata.tenant_id of the token; user_metadata, which users
 * can edit, says something else in every token here.
 */
import assert from "node:assert/strict";
import { before, it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { oneOfEach, signIn } from "./end-users.ts";
import { only, type Rig, refusal, rigOf } from "./rig.ts";

const ACME = { tenant: "acme" };

describeOnEachServer("a signed-in user sees", (context) => {
  let own: Awaited<ReturnType<typeof oneOfEach>>;
  let ann: TestSql;
  let bob: TestSql;
  let nobody: TestSql;
  before(async () => {
    own = await oneOfEach(context.db, "acme");
    await oneOfEach(context.db, "bolt");
    await oneOfEach(context.db, undefined);
    ann = signIn(context.db, "acme", "bolt");
    bob = signIn(context.db, "bolt", "acme");
    nobody = signIn(context.db, undefined, "acme");
  });
  const ownIds = () => Object.values(own).sort();

  it("the jobs of its own tenant, each with its status", async () => {
    const rows = await ann<{ id: string; status: string; tenant_id: string }[]>`
      select id, status, tenant_id from public.job_queue`;

    assert.deepEqual(Object.fromEntries(rows.map(({ id, status }) => [status, id])), own);
    assert.deepEqual(new Set(rows.map(({ tenant_id }) => tenant_id)), new Set(["acme"]));
  });

  it("the same jobs in queue_jobs", async () => {
    const rows = await ann<{ id: string }[]>`select id from public.queue_jobs`;

    assert.deepEqual(rows.map(({ id }) => id).sort(), ownIds());
  });

  it("the dead letter of its own tenant", async () => {
    const rows = await ann<{ id: string }[]>`select id from public.job_dead_letter`;

    assert.deepEqual(
      rows.map(({ id }) => id),
      [own.failed],
    );
  });

  it("the history of its own jobs, every one of them", async () => {
    const rows = await ann<{ id: string }[]>`
      select distinct job_id as id from public.job_status_history`;

    assert.deepEqual(rows.map(({ id }) => id).sort(), ownIds());
  });

  it("not which worker has its job, nor since when", async () => {
    const [row] = await ann`
      select status, worker_id, started_at, progress_percent from public.job_queue
      where id = ${own.processing}`;

    assert.deepEqual(
      { ...row },
      { status: "processing", worker_id: null, started_at: null, progress_percent: "10.00" },
    );
  });

  const RUNNING: readonly {
    what: string;
    attempts: number;
    make: (rig: Rig) => Promise<unknown>;
  }[] = [
    { what: "its first run", attempts: 1, make: ({ enqueue }) => enqueue("runs", ACME) },
    {
      what: "a retry",
      attempts: 2,
      make: async ({ start, fail }) => fail(await start("runs", ACME), "no", { after: 0 }),
    },
    {
      what: "a run after a release",
      attempts: 1,
      make: async ({ start, settle }) => settle(await start("runs", ACME), { outcome: "released" }),
    },
    {
      what: "a run after a redrive",
      attempts: 1,
      make: async ({ bury, sql }) =>
        sql`select from public.redrive_jobs(array[${await bury("runs", ACME)}]::bigint[])`,
    },
  ];
  for (const { what, attempts, make } of RUNNING) {
    it(`which attempt ${what} is, without the lease`, async () => {
      const rig = rigOf(context.db);
      await make(rig);
      const { id } = await rig.take("runs");

      const [row] = await ann`select status, attempts from public.job_queue where id = ${id}`;
      await rig.sql`delete from queue.jobs where id = ${id}`;

      assert.deepEqual({ ...row }, { status: "processing", attempts });
    });
  }

  it("nothing of another tenant in any view or table that it can read", async () => {
    const readable = await context.db.superSql<{ name: string }[]>`
      select c.oid::regclass::text as name from pg_class as c
      where c.relnamespace in ('public'::regnamespace, 'queue'::regnamespace)
        and c.relkind in ('r', 'p', 'v') and has_table_privilege('authenticated', c.oid, 'select')`;
    const everything = await Promise.all(
      readable.map(({ name }) => bob.unsafe(`select to_jsonb(seen) as seen from ${name} as seen`)),
    );
    // Names of types and queues are no tenant's.
    const text = JSON.stringify(everything).replaceAll(/each-of-\w+/g, "");

    assert.ok(readable.length > 10);
    assert.match(text, /secret of bolt/);
    assert.doesNotMatch(text, /acme|nobody/);
  });

  it("in the tables beneath the views no row of another tenant's job", async () => {
    const rows = await ann<{ source: string; id: string }[]>`
      select 'jobs' as source, id from queue.jobs
      union select 'ready', id from queue.ready
      union select 'scheduled', id from queue.scheduled
      union select 'waiting', id from queue.waiting
      union select 'runs', job_id from queue.runs
      union select 'dead_letters', job_id from queue.dead_letters
      union select 'progress', job_id from queue.progress
      union select 'leases', id from queue.leases
      union select 'workers', id from queue.workers`;

    assert.deepEqual(
      rows.filter(({ id }) => !ownIds().includes(id)),
      [],
    );
    assert.deepEqual([...new Set(rows.map(({ source }) => source))].sort(), [
      "dead_letters",
      "jobs",
      "progress",
      "ready",
      "runs",
      "scheduled",
      "waiting",
    ]);
  });

  it("of the tenants only its own", async () => {
    const rows = await ann`select name from queue.tenants`;

    assert.deepEqual(
      rows.map((row) => row["name"]),
      ["acme"],
    );
  });

  it("nothing when its token names no tenant, whatever else it claims", async () => {
    const [row] = await nobody`
      select (select count(*) from public.job_queue)::integer as jobs,
        (select count(*) from public.queue_jobs)::integer as same,
        (select count(*) from public.job_dead_letter)::integer as dead,
        (select count(*) from public.job_status_history)::integer as steps`;

    assert.deepEqual({ ...row }, { jobs: 0, same: 0, dead: 0, steps: 0 });
  });

  it("nothing of the jobs without a tenant by naming the tenant 0 or none", async () => {
    const zero = signIn(context.db, "0", "acme");
    const empty = signIn(context.db, "", "acme");

    const [asZero] = await zero`select count(*)::integer as n from public.job_queue`;
    const [asEmpty] = await empty`select count(*)::integer as n from public.job_queue`;

    assert.deepEqual([asZero?.["n"], asEmpty?.["n"]], [0, 0]);
  });

  it("nothing at all without a token", async () => {
    const without = context.db.connectAs("authenticated");

    const rows = await without`select id from public.job_queue`;

    assert.equal(rows.length, 0);
  });
});

describeOnEachServer("a signed-in user enqueues", (context) => {
  let ann: TestSql;
  let bob: TestSql;
  before(async () => {
    await context.db
      .sql`insert into queue.types (name, is_public) values ('open', true), ('closed', false)`;
    ann = signIn(context.db, "acme", "bolt");
    bob = signIn(context.db, "bolt", "acme");
  });

  it("a public type for its own tenant, which it need not name", async () => {
    const job = await rigOf(context.db).row(await rigOf(context.db, ann).enqueue("open"));

    assert.deepEqual([job.tenant_id, job.queue], ["acme", "open"]);
  });

  it("many at once, all for its own tenant", async () => {
    const rows = await ann<{ id: string }[]>`
      select id from public.enqueue_jobs('[{"type": "open"}, {"type": "open", "tenant_id": "acme"}]')`;

    const jobs = await Promise.all(rows.map(({ id }) => rigOf(context.db).row(id)));
    assert.deepEqual(
      jobs.map((job) => job.tenant_id),
      ["acme", "acme"],
    );
  });

  it("and names the queue only if it is the type's own", async () => {
    const { enqueue } = rigOf(context.db, ann);

    const id = await enqueue("open", { queue: "open" });

    assert.equal((await rigOf(context.db).row(id)).queue, "open");
  });

  const REFUSED = [
    {
      what: "another tenant",
      one: "'open', p_tenant_id => 'bolt'",
      many: `"open", "tenant_id": "bolt"`,
    },
    { what: "a type that is not public", one: "'closed'", many: `"closed"` },
    { what: "a type that nobody knows", one: "'unheard-of'", many: `"unheard-of"` },
    {
      what: "a queue of its choice",
      one: "'open', p_queue => 'vip'",
      many: `"open", "queue": "vip"`,
    },
  ];
  for (const { what, one, many } of REFUSED) {
    it(`not for ${what}, one by one or many at once`, async () => {
      const single = await refusal(ann.unsafe(`select public.enqueue_job(${one})`));
      const second = await refusal(
        ann.unsafe(`select * from public.enqueue_jobs('[{"type": "open"}, {"type": ${many}}]')`),
      );

      assert.deepEqual([single.code, second.code], ["42501", "42501"]);
      assert.ok(single.hint && second.hint);
    });
  }

  it("a type that is allowed to the role its token has in app_metadata, and to no other role", async () => {
    await context.db
      .sql`insert into queue.types (name, allowed_roles) values ('editors-only', '{editor,owner}')`;
    const sign = (app: object, others: object) =>
      context.db.connectAs("authenticated", {
        role: "editor",
        ...others,
        app_metadata: { tenant_id: "acme", ...app },
      });
    const enqueue = (sql: TestSql) => sql`select public.enqueue_job('editors-only')`;

    const made = await enqueue(sign({ role: "editor" }, {}));
    const refused = [
      await refusal(enqueue(sign({ role: "reader" }, { user_metadata: { role: "editor" } }))),
      await refusal(enqueue(sign({}, { user_metadata: { role: "owner" } }))),
      await refusal(enqueue(sign({ role: ["editor"] }, {}))),
    ];

    assert.equal(made.length, 1);
    assert.deepEqual(
      refused.map(({ code }) => code),
      ["42501", "42501", "42501"],
    );
  });

  it("and a refused call leaves no new name behind", async () => {
    await refusal(ann`select public.enqueue_job('made-up')`);

    const rows = await context.db.sql`select from queue.types where name = 'made-up'`;

    assert.equal(rows.length, 0);
  });

  it("not when its token names no tenant", async () => {
    const { code, hint } = await refusal(
      signIn(context.db, undefined, "acme")`select public.enqueue_job('open')`,
    );

    assert.equal(code, "42501");
    assert.match(hint ?? "", /app_metadata/);
  });

  it("not behind a job of another tenant, which stays as good as unknown", async () => {
    const foreign = await rigOf(context.db, bob).enqueue("open");
    const { enqueue } = rigOf(context.db, ann);

    const known = await refusal(enqueue("open", { dependsOn: [foreign] }));
    const unknown = await refusal(enqueue("open", { dependsOn: ["999999"] }));

    assert.deepEqual([known.code, unknown.code], ["MR007", "MR007"]);
    assert.equal(known.message.replaceAll(/\d+/g, "#"), unknown.message.replaceAll(/\d+/g, "#"));
  });

  it("behind a job of its own", async () => {
    const { enqueue } = rigOf(context.db, ann);
    const parent = await enqueue("open");

    const child = await enqueue("open", { dependsOn: [parent] });

    assert.equal(await rigOf(context.db).status(child), "blocked");
  });

  it("with keys of its own tenant: another's key is free to use", async () => {
    const first = await rigOf(context.db, ann).enqueue("open", { key: "k" });
    const again = await rigOf(context.db, ann).enqueue("open", { key: "k" });
    const other = await rigOf(context.db, bob).enqueue("open", { key: "k" });

    assert.equal(again, first);
    assert.notEqual(other, first);
  });

  it("and finds what it enqueued in the view", async () => {
    const { enqueue, row } = rigOf(context.db, ann);

    const id = await enqueue("open", { payload: { a: 1 } });

    assert.deepEqual((await row(id)).payload, { a: 1 });
    assert.equal((await bob`select from public.job_queue where id = ${id}`).length, 0);
  });

  it("whose number or name of a tenant is taken as text", async () => {
    const sql = context.db.connectAs("authenticated", { app_metadata: { tenant_id: 42 } });

    const job = await rigOf(context.db).row(await rigOf(context.db, sql).enqueue("open"));

    assert.equal(only(job).tenant_id, "42");
  });

  it("under a role of the application's own that inherits from authenticated, and no more than that", async () => {
    const { db } = context;
    // Roles belong to the whole cluster, which other files share.
    const role = `editor_${db.name}`;
    await db.superSql.unsafe(`create role ${role} nologin in role authenticated`);
    const eve = db.connectAs(role, { role, app_metadata: { tenant_id: "acme" } });

    const id = await rigOf(db, eve).enqueue("open");
    const refused = [
      await refusal(rigOf(db, eve).enqueue("closed")),
      await refusal(rigOf(db, eve).enqueue("open", { tenant: "bolt" })),
    ];

    assert.equal((await rigOf(db).row(id)).tenant_id, "acme");
    assert.deepEqual(
      refused.map(({ code }) => code),
      ["42501", "42501"],
    );
    assert.deepEqual(
      (await eve`select distinct tenant_id from public.job_queue`).map((row) => row["tenant_id"]),
      ["acme"],
    );
  });

  it("but a service is none, with a token or without", async () => {
    const { db } = context;
    const service = db.connectAs("service_role", { role: "service_role" });

    const id = await rigOf(db, service).enqueue("closed", { tenant: "bolt" });

    assert.equal((await rigOf(db).row(id)).tenant_id, "bolt");
  });

  it("while anon is refused even for a public type, with a token of a tenant", async () => {
    const anon = context.db.connectAs("anon", { app_metadata: { tenant_id: "acme" } });

    const { code } = await refusal(anon`select public.enqueue_job('open')`);

    assert.equal(code, "42501");
  });
});
