import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { spreadOf } from "../../src/cli/bench/figures.ts";
import { resolveDatabase } from "../../src/embedded/resolve-database.ts";
import { assertShape, documented } from "../docs/documented.ts";
import { connect, withDatabaseName } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";
import { launchPgBouncer, pgbouncerMissing, startPgBouncer } from "../support/pgbouncer.ts";
import { MIGRATOR } from "../support/prepare-cluster.ts";
import { describeOnEachServer, describeWithDatabase } from "../support/suite.ts";
import { type CliRun, type CliWorld, cli } from "./run.ts";

/** The suite's pooler keeps a superuser's session in each database, which then nobody else can drop. */
const DIRECT = { pooler: false };

const SMALL = ["--jobs", "500", "--one-by-one", "50", "--samples", "5"];

interface Report {
  readonly drain: Record<string, number>;
  readonly enqueue_bulk: Record<string, number>;
  readonly enqueue_one_by_one: Record<string, number>;
  readonly latency: Record<string, number | boolean>;
  readonly round_trip: Record<string, number>;
  readonly server: Record<string, string>;
  readonly removed_leftovers: readonly string[];
}

/** URL of a role that owns the queue, and may make databases. */
async function creatorUrl(db: TestDatabase): Promise<string> {
  const url = await db.loginUrl(MIGRATOR);
  await db.superSql.unsafe(`alter role ${new URL(url).username} createdb`);
  return url;
}

function bench(url: string, argv: readonly string[] = [], world: CliWorld = {}): Promise<CliRun> {
  return cli(["bench", ...SMALL, ...argv], { env: { DATABASE_URL: url }, ...world });
}

/** The databases that measurements of this role left behind. */
async function databasesOf(db: TestDatabase, url: string): Promise<string[]> {
  const rows = await db.superSql<{ name: string }[]>`
    select datname as name from pg_database
     where datname like 'millrace_bench_%' and datdba = ${new URL(url).username}::regrole
     order by datname`;
  return rows.map(({ name }) => name);
}

/** What of the user's own queue a measurement could have changed. */
async function ownQueue(db: TestDatabase): Promise<unknown> {
  return db.superSql`
    select (select json_agg(job order by job.id) from public.job_queue as job)::text as jobs,
           (select json_agg(worker) from queue.workers as worker)::text as workers,
           (select count(*)::int from queue.types) as types,
           (select last_value from queue.job_ids) as last_id,
           (select count(*)::int from pg_catalog.pg_class) as relations`;
}

describeOnEachServer(
  "millrace bench",
  (context) => {
    let url = "";
    before(async () => {
      url = await creatorUrl(context.db);
    });

    it("tells the figures, leaves the user's queue alone, and leaves nothing behind", async () => {
      await context.db.sql`select public.enqueue_job('bench.own')`;
      const untouched = await ownQueue(context.db);

      const run = await bench(url);

      assert.equal(run.code, 0, run.err);
      assert.match(run.out, /^Postgres \d+[.\d]* at 127.0.0.1:\d+\/t_\w+/);
      assert.match(run.out, /\n {2}drain +[\d,]+ jobs\/s {2}500 jobs, one worker, 24 at a time\n/);
      assert.match(run.out, /\n {2}enqueue in bulk +[\d,]+ jobs\/s {2}500 jobs, 1,000 a call\n/);
      assert.match(run.out, /\n {2}enqueue one by one +[\d,]+ jobs\/s {2}50 jobs, 10 producers/);
      assert.match(run.out, /\n {2}enqueue to start, p50 +[\d.]+ ms {2}5 jobs, idle worker\n/);
      assert.match(run.out, /\n {2}round trip, p50 +[\d.]+ ms {2}select 1\n/);
      assert.match(run.out, /\n {2}synchronous_commit +on\n {2}fsync +off\n/);
      assert.match(run.out, /! fsync.* off\n +why +A crash of the server can lose jobs/);
      assert.match(run.err, /^Measuring in millrace_bench_\d+_\w+ beside 127.0.0.1:\d+\/t_\w+/);
      assert.deepEqual(await databasesOf(context.db, url), []);
      assert.deepEqual(await ownQueue(context.db), untouched);
    });

    it("--json tells the same to programs, and the figures fit together", async () => {
      const run = await bench(url, ["--json", "--concurrency", "7"]);

      assert.equal(run.code, 0, run.err);
      assert.equal(run.err, "");
      const report = run.json<Report>();
      assertShape(report, await documented("docs/cli.md", "database"));
      assert.deepEqual(Object.keys(report), [
        "database",
        "server",
        "drain",
        "enqueue_bulk",
        "enqueue_one_by_one",
        "latency",
        "round_trip",
        "removed_leftovers",
      ]);
      const { drain, enqueue_bulk, enqueue_one_by_one, latency, round_trip, server } = report;
      assert.deepEqual(
        [drain["jobs"], drain["concurrency"], enqueue_bulk["jobs"], enqueue_one_by_one["jobs"]],
        [500, 7, 500, 50],
      );
      for (const { jobs = 0, elapsed_ms = 0, jobs_per_second = 0 } of [
        drain,
        enqueue_bulk,
        enqueue_one_by_one,
      ]) {
        assert.ok(
          Math.abs(jobs_per_second - (jobs / elapsed_ms) * 1_000) < 1 + jobs_per_second / 100,
        );
      }
      assert.equal(latency["samples"], 5);
      assert.equal(latency["is_notified"], true);
      for (const { p50_ms, p95_ms, p99_ms } of [latency, round_trip]) {
        assert.ok(Number(p50_ms) > 0);
        assert.ok(Number(p95_ms) >= Number(p50_ms) && Number(p99_ms) >= Number(p95_ms));
      }
      assert.deepEqual([server["fsync"], server["synchronous_commit"]], ["off", "on"]);
      assert.match(`${server["shared_buffers"]}`, /^\d+\w+$/);
      assert.deepEqual(report.removed_leftovers, []);
    });

    it("works where the queue is not installed, and does not install it", async () => {
      await context.db.superSql`drop schema queue cascade`;

      const run = await bench(url);

      assert.equal(run.code, 0, run.err);
      const [row] = await context.db.sql`select to_regnamespace('queue') as queue`;
      assert.equal(row?.["queue"], null);
    });
  },
  DIRECT,
);

describeWithDatabase(
  "millrace bench where something is in its way",
  (context) => {
    let url = "";
    before(async () => {
      url = await creatorUrl(context.db);
    });

    it("a role that may not make databases: exit 1, and what to do", async () => {
      const text = await bench(context.db.url);
      const json = await bench(context.db.url, ["--json"]);

      assert.equal(text.code, 1);
      assert.match(
        text.err,
        /^✗ Role postgres may not create a database[\s\S]*why +The measurement[\s\S]*alter role "postgres" createdb/,
      );
      assert.equal(JSON.parse(json.err).error.code, "CANNOT_CREATE_DATABASE");
      assert.equal(text.out + json.out, "");
    });

    it("numbers that make no sense: exit 2", async () => {
      const run = await bench(url, ["--jobs", "0"]);

      assert.equal(run.code, 2);
      assert.match(run.err, /--jobs[\s\S]*must be a whole number from 1 to 1,000,000/);
    });

    // Bars come with the first picture, so what they show must still be under way then.
    const moments: [moment: string, sizes: string[]][] = [
      ["Measuring in", []],
      ["latency", ["--samples", "1000"]],
      ["draining", ["--jobs", "20000"]],
      ["one by one", ["--one-by-one", "10000"]],
    ];
    for (const [moment, sizes] of moments) {
      it(`interrupted at “${moment}”: exit 130, and the database is dropped`, async () => {
        const stop = new AbortController();
        const onText = (text: string): void => {
          if (text.includes(moment)) stop.abort();
        };

        const run = await bench(url, sizes, { isTerminal: true, stop: stop.signal, onText });

        assert.equal(run.code, 130, run.err);
        assert.match(run.err, /✗ Interrupted before everything was measured\n/);
        assert.equal(run.out, "");
        assert.deepEqual(await databasesOf(context.db, url), []);
      });
    }

    it("its database is taken away: exit 3, no figures", async () => {
      let taken: Promise<unknown> | undefined;
      const onText = (text: string): void => {
        const [, name] = /Measuring in (\w+)/.exec(text) ?? [];
        if (name)
          taken = context.db.superSql.unsafe(`drop database ${name} with (force)`).execute();
      };

      const run = await bench(url, ["--samples", "1000"], { onText });

      await taken;
      assert.equal(run.code, 3, run.err);
      assert.equal(run.out, "");
    });

    it("somebody else is in its database: figures, and exit 1 because it is left", async () => {
      let guest: ReturnType<typeof connect> | undefined;
      let arrived: Promise<unknown> | undefined;
      const onText = (text: string): void => {
        const [, name] = /Measuring in (\w+)/.exec(text) ?? [];
        if (!name) return;
        guest = connect(withDatabaseName(context.db.superUrl, name), { max: 1 });
        arrived = guest`select 1`.execute();
      };
      try {
        const run = await bench(url, [], { onText });

        await arrived;
        assert.equal(run.code, 1, run.err);
        assert.match(run.out, /drain +[\d,]+ jobs\/s/);
        assert.match(
          run.err,
          /✗ millrace_bench_\w+, which[\s\S]*why +Somebody has a session in it/,
        );
      } finally {
        await guest?.end();
        for (const name of await databasesOf(context.db, url)) {
          await context.db.superSql.unsafe(`drop database ${name} with (force)`);
        }
      }
    });

    it(
      "through a pooler in transaction mode: figures, and that nobody is woken",
      { skip: pgbouncerMissing },
      async () => {
        const { username, port, password } = new URL(url);
        const bouncer = await launchPgBouncer({
          database: `* = host=127.0.0.1 port=${port}`,
          users: [username],
          password,
          settings: {},
        });
        try {
          const pooled = new URL(url);
          pooled.port = String(bouncer.port);
          pooled.searchParams.set("pgbouncer", "true");

          const run = await bench(pooled.href, ["--samples", "1"]);

          assert.equal(run.code, 0, run.err);
          assert.match(run.out, /! A pooler in transaction mode stands between[\s\S]*Workers poll/);
          assert.deepEqual(await databasesOf(context.db, url), []);
        } finally {
          await bouncer.stop();
        }
      },
    );

    it(
      "through a pooler that knows only its own databases: exit 3, and the database is dropped",
      { skip: pgbouncerMissing },
      async () => {
        const bouncer = await startPgBouncer(context.db, { users: [new URL(url).username] });
        try {
          const run = await bench(bouncer.through(url));

          assert.equal(run.code, 3, run.err);
          assert.match(
            run.err,
            /✗ millrace_bench_\w+ was made .* can't be reached\n +why[\s\S]*A pooler in between[\s\S]*fix +Give the address of the server itself/,
          );
          assert.deepEqual(await databasesOf(context.db, url), []);
        } finally {
          await bouncer.stop();
        }
      },
    );
  },
  DIRECT,
);

describeWithDatabase(
  "what interrupted runs of millrace bench left behind",
  (context) => {
    it("is dropped by the next run, when it is an hour old and nobody is in it", async () => {
      const url = await creatorUrl(context.db);
      const hoursAgo = (hours: number): number => Math.floor(Date.now() / 1_000) - hours * 3_600;
      const left = `millrace_bench_${hoursAgo(2)}_0a1b2c3d`;
      const busy = `millrace_bench_${hoursAgo(3)}_0a1b2c3d`;
      const young = `millrace_bench_${hoursAgo(0.5)}_0a1b2c3d`;
      const another = `millrace_bench_of_${hoursAgo(5)}`;
      const owner = new URL(url).username;
      for (const name of [left, busy, young, another]) {
        await context.db.superSql.unsafe(`create database ${name} owner ${owner}`);
      }
      const foreign = `millrace_bench_${hoursAgo(4)}_0a1b2c3d`;
      await context.db.superSql.unsafe(`create database ${foreign}`);
      const guest = connect(withDatabaseName(context.db.superUrl, busy), { max: 1 });
      try {
        await guest`select 1`;

        const text = await bench(url);
        const json = await bench(url, ["--json"]);

        assert.equal(text.code, 0, text.err);
        assert.match(text.err, new RegExp(`^Dropped ${left}, which an earlier run left behind\n`));
        assert.deepEqual(json.json<Report>().removed_leftovers, []);
        assert.deepEqual(await databasesOf(context.db, url), [busy, young, another].sort());
        const [kept] = await context.db
          .superSql`select from pg_database where datname = ${foreign}`;
        assert.ok(kept, "what belongs to somebody else stays");
      } finally {
        await guest.end();
        for (const name of [left, busy, young, another, foreign]) {
          await context.db.superSql.unsafe(`drop database if exists ${name} with (force)`);
        }
      }
    });
  },
  DIRECT,
);

it("bench on a server that never had a queue leaves no role behind either", async () => {
  const cwd = await mkdtemp(join(tmpdir(), "millrace-bench-"));
  try {
    await mkdir(join(cwd, ".millrace/postgres"), { recursive: true });

    const run = await cli(["bench", ...SMALL, "--json"], { cwd });

    assert.equal(run.code, 0, run.err);
    const server = await resolveDatabase({}, { dataDir: join(cwd, ".millrace/postgres") });
    const sql = connect(server.url, { max: 1 });
    try {
      const left = await sql`
        select rolname as name from pg_roles where rolname like 'millrace%'
        union all select datname from pg_database where datname like 'millrace_bench%'`;
      assert.deepEqual([...left], []);
    } finally {
      await sql.end();
      await server.stop();
    }
  } finally {
    await rm(cwd, { recursive: true, force: true });
  }
});

describe("the spread of what was measured", () => {
  it("lies between neighbours, in whatever order they came", () => {
    const values = Array.from({ length: 101 }, (_, index) => 101 - index);

    assert.deepEqual(spreadOf(values), { samples: 101, p50: 51, p95: 96, p99: 100 });
    assert.equal(spreadOf([4, 1, 3, 2]).p50, 2.5);
    assert.deepEqual(spreadOf([7]), { samples: 1, p50: 7, p95: 7, p99: 7 });
  });
});
