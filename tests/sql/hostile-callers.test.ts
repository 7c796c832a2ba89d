/** Who may call little tries to stop the others: with jobs that no claim or settlement can bear, and with locks that anybody can take. */
import assert from "node:assert/strict";
import { before, it } from "node:test";
import postgres from "postgres";
import { connect, type TestSql, withDatabaseName } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { signIn } from "./end-users.ts";
import { only, refusal, rigOf } from "./rig.ts";

/** A login that may connect and nothing else. */
async function strangerUrl({ superSql, superUrl, name }: TestDatabase): Promise<string> {
  const login = `stranger_${name}`;
  await superSql.unsafe(`create role ${login} login password '${new URL(superUrl).password}'`);
  return withDatabaseName(superUrl, name, login);
}

describeOnEachServer(
  "a hostile end user",
  (context) => {
    let ann: TestSql;
    before(async () => {
      await context.db.sql`insert into queue.types (name, is_public) values ('open', true)`;
      ann = signIn(context.db, "acme", "bolt");
    });

    it("makes no job whose jitter is too small for any settlement", async () => {
      const { claim, sql } = rigOf(context.db);
      await ann.unsafe(
        `select public.enqueue_job('open', p_options => '{"backoff": {"base_ms": 1000, "jitter": 1e-400}}')`,
      );
      const other = await rigOf(context.db).enqueue("open", { tenant: "bolt" });
      const jobs = await claim("open", { batch: 2 });

      const settled = await sql`
        select job_id as id, to_status from queue.settle(${sql.json(
          jobs.map(({ id, lease_id }) => ({ lease: lease_id, id, outcome: "failed" })),
        )})`;

      assert.equal(settled.length, 2);
      assert.deepEqual(new Set(settled.map((row) => row["to_status"])), new Set(["scheduled"]));
      assert.ok(settled.some((row) => row["id"] === other));
    });

    const BLOATED: readonly [string, string][] = [
      ["a number of 131072 digits", "1e131071"],
      ["a negative one, deep inside", '{"a": [{"b": -1e131071}]}'],
      ["a number with 16383 decimals", "[1e-16383]"],
      ["very many zeros behind the point", `[${Array(20).fill(`1.${"0".repeat(9000)}`)}]`],
      ["more of it than a text can hold", `[${Array(9000).fill("1e131071")}]`],
    ];
    for (const [what, payload] of BLOATED) {
      it(`makes no job with ${what}, in whatever way`, async () => {
        const refused = [
          await refusal(ann`select public.enqueue_job('open', ${payload}::text::jsonb)`),
          await refusal(
            ann`select * from public.enqueue_jobs(${`[{"type": "open"}, {"type": "open", "payload": ${payload}}]`}::text::jsonb)`,
          ),
          await refusal(
            ann`select queue.enqueue_alike('open', ${`[{}, ${payload}]`}::text::jsonb)`,
          ),
        ];

        assert.deepEqual(
          refused.map(({ code, message }) => [code, message.startsWith("element 2: ")]),
          [
            ["MR004", false],
            ["MR004", true],
            ["MR004", true],
          ],
        );
      });
    }

    it("uses up no ids by calls that its quota refuses", async () => {
      const last = async (): Promise<bigint> => {
        const [row] = await context.db.superSql<{ at: string }[]>`
          select last_value::text as at from queue.job_ids`;
        return BigInt(only(row).at);
      };
      const before = await last();
      const many = Array.from({ length: 1001 }, () => ({ type: "open", idempotency_key: "one" }));

      const refused = [
        await refusal(ann`select public.enqueue_jobs(${ann.json(many)})`),
        await refusal(ann`select queue.enqueue_alike('open', ${ann.json(many)})`),
      ];

      assert.deepEqual(
        refused.map(({ code }) => code),
        ["MR016", "MR016"],
      );
      assert.equal(await last(), before);
    });

    it("enqueues for another tenant by a function of the owner only if that says so in the claims", async () => {
      await context.db.sql.unsafe(`
        create function public.enqueue_as_oneself(p_tenant text) returns bigint language sql security definer as $$
          select public.enqueue_job('open', p_tenant_id => p_tenant) $$;
        create function public.enqueue_checked(p_tenant text) returns bigint language plpgsql security definer as $$
        begin
          perform set_config('request.jwt.claims', jsonb_build_object(
            'app_metadata', jsonb_build_object('tenant_id', p_tenant))::text, true);
          return public.enqueue_job('open');
        end $$;`);

      const refused = await refusal(ann`select public.enqueue_as_oneself('other')`);
      const [row] = await ann<{ id: string }[]>`select public.enqueue_checked('other') as id`;

      assert.equal(refused.code, "42501");
      assert.equal((await rigOf(context.db).row(only(row).id)).tenant_id, "other");
    });

    it("has its numbers of a usual size, its long texts and signs in the payload all the same", async () => {
      const payload = {
        numbers: [Number.MAX_VALUE, Number.MIN_VALUE, 0, -1.5, 1e100, 123456789012],
        many: Array.from({ length: 1000 }, (_, n) => n / 7),
        text: "\u0001\u0002".repeat(5000),
        long: "x".repeat(100_000),
      };

      const id = await rigOf(context.db, ann).enqueue("open", { payload });

      assert.deepEqual((await rigOf(context.db).row(id)).payload, payload);
    });
  },
  { pooler: false },
);

describeOnEachServer(
  "a hostile service",
  (context) => {
    it("makes no single job that is far longer as text than as jsonb", async () => {
      const { sql } = context.db;
      const parent = await rigOf(context.db).enqueue("bloated");

      const refused = [
        await refusal(sql`select public.enqueue_job('bloated', '[1e131071]')`),
        await refusal(
          sql`select public.enqueue_job('bloated', '[1e131071]', p_depends_on => array[${parent}]::bigint[])`,
        ),
      ];

      assert.deepEqual(
        refused.map(({ code }) => code),
        ["MR004", "MR004"],
      );
    });

    it("breaks no statistics with the numbers that its worker tells", async () => {
      const { sql } = context.db;
      await rigOf(context.db).enqueue("told");
      for (const number of ["1e30", "-1e30", "1e131071"]) {
        await sql`select queue.register_worker(
          ${`teller of ${number}`}, ${`{"fetched": {"told": ${number}}}`}::text::jsonb, '{told}', '{told}')`;
      }

      const rows = await sql`select queue, pending::int from public.queue_stats('told')`;

      assert.deepEqual({ ...only(rows[0]) }, { queue: "told", pending: 1 });
    });

    it("is an end user when its role has the rights of one, also without a token", async (t) => {
      const sql = postgres(await context.db.loginUrl("authenticated"), { max: 1 });
      t.after(() => sql.end());

      const refused = await refusal(
        sql`select public.enqueue_job('closed', p_tenant_id => 'bolt', p_queue => 'vip')`,
      );

      assert.equal(refused.code, "42501");
      assert.equal((await context.db.sql`select from queue.types where name = 'closed'`).length, 0);
    });

    it("is none when it is the owner, a superuser or a worker's login, whatever else they may", async (t) => {
      const url = await context.db.loginUrl("millrace_worker");
      await context.db.superSql.unsafe(`grant authenticated to ${new URL(url).username}`);
      const worker = postgres(url, { max: 1 });
      t.after(() => worker.end());

      for (const sql of [context.db.sql, context.db.superSql, worker]) {
        const [row] = await sql<{ id: string }[]>`
          select public.enqueue_job('closed', p_tenant_id => 'bolt', p_queue => 'vip') as id`;
        assert.equal((await rigOf(context.db).row(only(row).id)).tenant_id, "bolt");
      }
    });
  },
  { pooler: false },
);

describeOnEachServer(
  "a stranger",
  (context) => {
    it("finds no advisory lock that the queue waits for or heeds", async () => {
      const rows = await context.db.superSql`
        select oid::regproc::text as name from pg_proc
        where pronamespace in ('queue'::regnamespace, 'public'::regnamespace) and prosrc ~ 'advisory'`;

      assert.deepEqual(
        rows.map((row) => row["name"]),
        [],
      );
    });

    it("can't lock a guard, nor can any role but the owner", async (t) => {
      const stranger = connect(await strangerUrl(context.db), { max: 1 });
      t.after(() => stranger.end());
      const roles = ["anon", "authenticated", "service_role", "millrace_worker"];

      for (const sql of [stranger, ...roles.map((role) => context.db.connectAs(role))]) {
        for (const statement of [
          "select from queue.guards for update",
          "select from queue.guards for key share",
          "lock table queue.guards in row share mode",
          "select queue.try_guard('maintain')",
        ]) {
          const { code } = await refusal(sql.begin((tx) => tx.unsafe(statement)));
          assert.equal(code, "42501", statement);
        }
      }
    });
  },
  { pooler: false },
);

describeOnEachServer(
  "a role that may make schemas",
  (context) => {
    it("lends none of the platform's names to functions that the owner would run", async (t) => {
      const { superSql, sql, name } = context.db;
      const url = await strangerUrl(context.db);
      await superSql.unsafe(
        `grant create on database ${name} to ${new URL(url).username}; grant create on schema public to ${new URL(url).username}`,
      );
      const maker = connect(url, { max: 1 });
      t.after(() => maker.end());
      await maker.unsafe(`
        create table public.ran (who text, what text);
        grant insert on public.ran to public;
        create function public.spy(p_what text) returns boolean language plpgsql as $$
        begin
          insert into public.ran values (current_user, p_what);
          return true;
        end $$;
        create schema net; create schema vault; create schema realtime; create schema cron;
        grant usage on schema net, vault, realtime, cron to public;
        create table net.http_request_queue (id bigint);
        create view net._http_response as
          select 1::bigint as id, 200 as status_code, false as timed_out, '' as error_msg, '' as content, now() as created
          where public.spy('response');
        create function net.http_post(url text, body jsonb, headers jsonb, timeout_milliseconds integer)
          returns bigint language sql as $$ select 1::bigint where public.spy('post') $$;
        create view vault.decrypted_secrets as
          select given as name, 'http://here' as decrypted_secret
          from unnest('{queue_worker_url,queue_worker_token}'::text[]) as given where public.spy('secret');
        create function realtime.send(payload jsonb, event text, topic text, private boolean)
          returns void language plpgsql as $$ begin perform public.spy('send'); end $$;
        create table cron.job (jobid bigint, jobname text, username name, schedule text, active boolean);
        create view cron.job_run_details as
          select 1::bigint as runid, 1::bigint as jobid, now() as start_time, now() as end_time, '' as status, '' as return_message
          where public.spy('run');
        create function cron.schedule(name text, schedule text, command text)
          returns bigint language sql as $$ select 1::bigint where public.spy('schedule') $$;
        grant select, delete on all tables in schema net, vault, cron to public;
        create function public.trigger_queue_worker() returns text
          language sql as $$ select 'rung' where public.spy('overload') $$;`);
      await sql`update queue.settings set broadcasts = true`;
      await sql`insert into queue.rings (at, reason, request_id) values (queue.clock(), 'tick', 1)`;
      const { complete, enqueue, start } = rigOf(context.db);

      await complete(await start("watched", { tenant: "acme" }));
      await enqueue("watched");
      const [row] = await sql`
        select queue.trigger_worker('process', null, null) as rung, queue.arm_edge_bell() as armed, queue.collect_rings() as collected,
          (queue.edge_status()) -> 'pg_cron' as cron, queue.purge_cron_history() as purged, queue.install_cron() -> 'installed' as installed, queue.uninstall_cron() as gone`;

      assert.deepEqual(
        { ...only(row) },
        {
          rung: "unavailable",
          armed: false,
          collected: 0,
          purged: 0,
          cron: false,
          installed: [],
          gone: [],
        },
      );
      for (const { command } of await sql<
        { command: string }[]
      >`select command from queue.cron_jobs()`) {
        await sql.unsafe(command);
      }
      assert.deepEqual([...(await superSql`select * from public.ran`)], []);
    });
  },
  { pooler: false },
);

describeOnEachServer(
  "a transaction that stays open",
  (context) => {
    it("after it moved the ids on keeps nobody from doing so or from what follows", async (t) => {
      const { superSql } = context.db;
      const [one, two] = [context.db.connect({ max: 1 }), context.db.connect({ max: 1 })];
      t.after(() => Promise.all([one.end(), two.end()]));
      const known = await rigOf(context.db).enqueue("held");
      await superSql`select setval('queue.generation_mark', 0, false)`;
      await one`begin`;
      const first = await rigOf(context.db, one).enqueue("held");

      await superSql`select setval('queue.generation_mark', 0, false)`;
      await two`set statement_timeout = '5s'`;
      const { enqueue, claim } = rigOf(context.db, two);
      const second = await enqueue("held");
      const jobs = await claim("held", { batch: 10 });
      await one`commit`;

      assert.deepEqual(
        jobs.map(({ id }) => id),
        [known, second],
      );
      assert.equal(await rigOf(context.db).status(first), "pending");
      const rows = await superSql<{ first: string }[]>`
        select first_lease_id as first from queue.generations order by first_lease_id`;
      assert.equal(rows.length, 3);
      assert.ok(BigInt(only(jobs[0]).lease_id) >= BigInt(only(rows[2]).first));
    });
  },
  { pooler: false },
);
