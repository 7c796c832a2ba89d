/**
 * Who may do what: each role beside each function, table and view, by trying; the lists of
 * functions and relations come from the catalog, what is allowed is told here.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { connect } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { refusal, rigOf } from "./rig.ts";

const PERMISSION_DENIED = /^permission denied for (function|schema|table|view|sequence) /;

class Rollback extends Error {}

/** Tries a statement and takes it back; whether it was refused for want of a right. */
async function isDenied(sql: TestSql, statement: string): Promise<boolean> {
  try {
    await sql.begin(async (tx) => {
      await tx.unsafe(statement);
      throw new Rollback();
    });
  } catch (error) {
    return error instanceof Error && PERMISSION_DENIED.test(error.message);
  }
  return false;
}

/** The names of those that a role is let through to, each tried by its statement. */
async function allowed(
  db: TestDatabase,
  role: string,
  tries: readonly { name: string; statement: string }[],
): Promise<string[]> {
  const sql = db.connectAs(role);
  const denied = await Promise.all(tries.map(({ statement }) => isDenied(sql, statement)));
  return tries.filter((_, index) => !denied[index]).map(({ name }) => name);
}

/** A call with nulls for every function of ours that can be called. */
async function calls({ superSql }: TestDatabase) {
  return superSql<{ name: string; statement: string }[]>`
    select p.oid::regproc::text as name,
      format('select * from %s(%s)', p.oid::regproc, (
        select string_agg('null::' || format_type(arg.type, null), ', ' order by arg.position)
        from unnest(p.proargtypes::oid[]) with ordinality as arg (type, position)
      )) as statement
    from pg_proc as p
    where p.pronamespace in ('public'::regnamespace, 'queue'::regnamespace)
      and p.prorettype <> 'trigger'::regtype
    order by p.oid::regproc::text collate "C"`;
}

/** A select from every table, partition and view of ours. */
async function reads({ superSql }: TestDatabase) {
  return superSql<{ name: string; statement: string }[]>`
    select c.oid::regclass::text as name, format('select from %s', c.oid::regclass) as statement
    from pg_class as c
    where c.relnamespace in ('public'::regnamespace, 'queue'::regnamespace) and c.relkind in ('r', 'p', 'v')
    order by c.oid::regclass::text collate "C"`;
}

/** Every right to write that a role has on a relation of ours. */
async function writes({ superSql }: TestDatabase, role: string): Promise<string[]> {
  const rows = await superSql<{ held: string }[]>`
    select lower(held.privilege_type) || ' ' || c.oid::regclass::text as held
    from pg_class as c, aclexplode(c.relacl) as held
    where c.relnamespace in ('public'::regnamespace, 'queue'::regnamespace)
      and held.grantee in (0, to_regrole(${role})) and held.privilege_type <> 'SELECT'
    order by 1`;
  return rows.map(({ held }) => held);
}

const OPERATORS_ONLY = [
  "cancel_job",
  "explain_job",
  "pause_queue",
  "purge_jobs",
  "queue_health",
  "queue_stats",
  "redrive_jobs",
  "resume_queue",
  "retry_job",
];

describeOnEachServer("of all functions", (context) => {
  const callable = async (role: string) => allowed(context.db, role, await calls(context.db));

  it("the owner can call every one, so the others are refused for want of a right", async () => {
    const all = (await calls(context.db)).map(({ name }) => name);

    assert.deepEqual(await callable("postgres"), all);
    assert.ok(all.length > 80);
  });

  it("anon can call none", async () => {
    assert.deepEqual(await callable("anon"), []);
  });

  it("authenticated can enqueue, and call what that and the views need", async () => {
    assert.deepEqual(await callable("authenticated"), [
      "enqueue_job",
      "enqueue_jobs",
      "queue.caller_role",
      "queue.caller_tenant_id",
      "queue.enqueue_alike",
      "queue.enqueue_many",
      "queue.enqueue_one",
      "queue.is_end_user",
      "queue.priority_name",
    ]);
  });

  it("a worker can call none of the operators' functions", async () => {
    const names = await callable("millrace_worker");

    assert.ok(names.includes("get_next_job"));
    assert.deepEqual(
      names.filter((name) => OPERATORS_ONLY.includes(name)),
      [],
    );
  });

  it("service_role can call all of the contract, and what a worker and the views call", async () => {
    const all = (await calls(context.db)).map(({ name }) => name);

    const names = await callable("service_role");

    assert.deepEqual(
      names.filter((name) => !name.startsWith("queue.")),
      all.filter((name) => !name.startsWith("queue.")),
    );
    const ofWorker = (await callable("millrace_worker")).filter((name) =>
      name.startsWith("queue."),
    );
    assert.deepEqual(
      names.filter((name) => name.startsWith("queue.") && !ofWorker.includes(name)),
      [
        "queue.caller_role",
        "queue.cancel",
        "queue.edge_status",
        "queue.explain",
        "queue.is_end_user",
        "queue.priority_name",
        "queue.purge",
        "queue.redrive",
        "queue.remove_route",
        "queue.retry",
        "queue.set_paused",
        "queue.set_route",
        "queue.stats",
        "queue.status_of",
      ],
    );
  });
});

describeOnEachServer("of all tables and views", (context) => {
  const readable = async (role: string) => allowed(context.db, role, await reads(context.db));

  it("anon reads none", async () => {
    assert.deepEqual(await readable("anon"), []);
  });

  it("a worker reads none", async () => {
    assert.deepEqual(await readable("millrace_worker"), []);
  });

  it("authenticated reads the views, and the tables beneath them as far as their policies let", async () => {
    assert.deepEqual(await readable("authenticated"), [
      "job_dead_letter",
      "job_queue",
      "job_status_history",
      "queue.dead_letters",
      "queue.jobs",
      "queue.leases",
      "queue.progress",
      "queue.queues",
      "queue.ready",
      "queue.runs",
      "queue.scheduled",
      "queue.tenants",
      "queue.types",
      "queue.waiting",
      "queue.workers",
      "queue_jobs",
    ]);
  });

  it("service_role reads all of them", async () => {
    const all = (await reads(context.db)).map(({ name }) => name);

    assert.deepEqual(await readable("service_role"), all);
  });

  it("nobody but the owner writes, and service_role the settings", async () => {
    assert.deepEqual(await writes(context.db, "anon"), []);
    assert.deepEqual(await writes(context.db, "authenticated"), []);
    assert.deepEqual(await writes(context.db, "millrace_worker"), []);
    assert.deepEqual(await writes(context.db, "service_role"), [
      "insert queue.queues",
      "insert queue.settings",
      "insert queue.tenants",
      "insert queue.types",
      "update queue.queues",
      "update queue.settings",
      "update queue.tenants",
      "update queue.types",
    ]);
  });
});

describeOnEachServer("a login of its own", (context) => {
  it("as a member of the worker's role enqueues, claims and settles, and sees nothing else", async () => {
    const url = await context.db.loginUrl("millrace_worker");
    const sql = connect(url, { max: 1 });
    const { start, complete } = rigOf(context.db, sql);

    const job = await start("by-worker");
    const done = await complete(job, { ok: true });
    const denied = await refusal(sql`select * from public.job_queue`);
    await sql.end();

    assert.equal(done, true);
    assert.equal(denied.code, "42501");
    assert.equal((await rigOf(context.db).row(job.id)).status, "completed");
  });

  it("of another role gets nothing before it is granted, and then works", async () => {
    const { db } = context;
    // Roles belong to the whole cluster, which other files share.
    const role = `stranger_${db.name}`;
    await db.sql.unsafe(`create role ${role} nologin`);
    const sql = db.connectAs(role);
    const refused = await refusal(sql`select public.enqueue_job('x')`);

    await db.sql`select queue.grant_worker(${role})`;

    assert.equal(refused.code, "42501");
    const job = await rigOf(db, sql).start("granted");
    assert.equal(job.attempt, 1);
  });

  it("of another role keeps its rights over a migration that makes functions anew", async () => {
    const { db } = context;
    const [worker, operator] = ["worker", "operator"].map((name) => `${name}_of_${db.name}`);
    assert.ok(worker && operator);
    for (const role of [worker, operator]) await db.sql.unsafe(`create role ${role} nologin`);
    await db.sql`select queue.grant_worker(${worker}), queue.grant_operator(${operator})`;
    const may = async (role: string): Promise<boolean[]> => {
      const [row] = await db.sql`
        select array(select has_function_privilege(${role}, called::regproc, 'execute')
          from unnest(array['queue.disarm_bells', 'public.resume_queue']) as called) as may`;
      return row?.["may"];
    };
    const granted = [await may(worker), await may(operator)];

    // As for changed parameters.
    for (const name of ["queue.disarm_bells", "public.resume_queue"]) {
      const [row] = await db.sql<{ text: string; args: string }[]>`
        select pg_get_functiondef(f.oid) as text, pg_get_function_identity_arguments(f.oid) as args
        from pg_proc as f where f.oid = ${name}::regproc`;
      await db.sql.unsafe(`drop function ${name}(${row?.args}); ${row?.text};
        revoke execute on function ${name} from public`);
    }
    const between = [await may(worker), await may(operator)];
    await db.sql`select queue.grant_access()`;

    const after = [await may(worker), await may(operator)];
    assert.deepEqual(granted, [
      [true, false],
      [true, true],
    ]);
    assert.deepEqual(between, [
      [false, false],
      [false, false],
    ]);
    assert.deepEqual(after, granted);
  });

  it("of another role grows by no migration from a single right that it was given", async () => {
    const { db } = context;
    const [asks, tunes] = ["asks", "tunes"].map((name) => `${name}_of_${db.name}`);
    assert.ok(asks && tunes);
    for (const role of [asks, tunes]) {
      await db.sql.unsafe(`create role ${role} nologin; grant usage on schema queue to ${role}`);
    }
    await db.sql.unsafe(`grant execute on function queue.schema_version to ${asks}`);
    await db.sql.unsafe(`grant select, update on queue.settings to ${tunes}`);

    await db.sql`select queue.grant_access()`;

    const [row] = await db.sql`
      select array(select called || ' by ' || who from unnest(array['queue.advance', 'public.purge_jobs', 'public.get_next_job']) as called,
          unnest(array[${asks}, ${tunes}]::text[]) as who
        where has_function_privilege(who, called::regproc, 'execute')) as may`;
    assert.deepEqual(row?.["may"], []);
  });
});
