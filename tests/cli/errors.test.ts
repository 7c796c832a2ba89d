import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { describeWithDatabase } from "../support/suite.ts";
import { APP, type CliRun, cli, FAILING_SEED } from "./run.ts";

/** What every expected failure has in common: an exit code, a message in three parts, no stack. */
function assertFailure(run: CliRun, code: number, message: RegExp): void {
  assert.equal(run.code, code, run.err);
  assert.match(run.err, message);
  assert.doesNotMatch(run.err, /^\s+at /m, "no stack");
  assert.equal(run.out, "", "no data");
}

describe("millrace with arguments that make no sense", () => {
  const faults: [argv: string[], message: RegExp][] = [
    [["frobnicate"], /^✗ Unknown command 'frobnicate'\n {2}fix {2}See millrace --help\n$/],
    [["jobs", "lst"], /Did you mean list\?/],
    [["jobs", "list", "--colour"], /Unknown option '--colour'[\s\S]*See millrace jobs list --help/],
    [["jobs", "list", "--limit", "many"], /--limit[\s\S]*must be a whole number from 1 to 1,000/],
    [["jobs", "list", "--status", "done"], /Allowed choices are blocked, scheduled/],
    [["jobs", "show", "first"], /'first' is invalid[\s\S]*positive whole number/],
    [["why", "9223372036854775808"], /positive whole number/],
    [["enqueue"], /Which type of job\?/],
    [
      ["enqueue", "a", "{}", "--priority", "urgent"],
      /Allowed choices are critical, high, normal, low/,
    ],
    [["enqueue", "a", "{}", "--in", "5 minutes"], /length of time such as 500ms, 30s/],
    [["enqueue", "a", "{}", "--at", "tomorrow"], /time such as 2026-12-31T18:00:00Z/],
    [["enqueue", "a", "{to: 1}"], /The payload is not JSON[\s\S]*double quotes/],
    [["enqueue", "a", "{}", "--file", "x"], /--file and a payload exclude each other/],
    [["work", APP, "--queues", "mail=zero"], /mail=20,report=2/],
    [["dev"], /There is nothing to run: no application was named/],
  ];
  for (const [argv, message] of faults) {
    it(`refuses: ${argv.map((word) => (word === APP ? "app" : word)).join(" ")}`, async () => {
      assertFailure(await cli(argv), 2, message);
    });
  }

  it("tells the same as JSON to programs", async () => {
    const run = await cli(["jobs", "show", "first", "--json"]);

    const { error } = JSON.parse(run.err);
    assert.deepEqual(Object.keys(error), ["code", "what", "why", "fix", "exit_code"]);
    assert.deepEqual([run.code, error.code, error.exit_code], [2, "USAGE", 2]);
  });

  it("help and version are answers, not failures", async () => {
    const help = await cli(["enqueue", "--help"]);
    const nothing = await cli([]);
    const group = await cli(["jobs"]);
    const version = await cli(["--version"]);

    assert.match(help.out, /Usage: millrace enqueue[\s\S]*--database-url/);
    assert.match(nothing.out, /Exit codes: 0 done/);
    assert.match(group.out, /retry.*<ids...>/);
    assert.match(version.out, /^\d+\.\d+\.\d+/);
    assert.deepEqual([help.code, nothing.code, group.code, version.code], [0, 0, 0, 0]);
  });
});

describe("millrace without a database to work with", () => {
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "millrace-cli-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it("nobody answers: exit 3, and the password stays hidden", async () => {
    const url = "postgres://app:open-sesame-42@127.0.0.1:9/shop";

    const text = await cli(["jobs", "list"], { env: { DATABASE_URL: url } });
    const json = await cli(["jobs", "list", "--json"], { env: { DATABASE_URL: url } });

    assertFailure(text, 3, /^✗ Cannot reach the database at 127.0.0.1:9: nothing answers there/);
    assert.equal(JSON.parse(json.err).error.code, "DATABASE_UNREACHABLE");
    assert.ok(!`${text.err}${json.err}`.includes("sesame"));
  });

  it("an address that is none: exit 2, and it is not repeated", async () => {
    const flag = await cli(["stats", "--database-url", "mysql://u:open-sesame-42@h/db"]);
    const env = await cli(["stats"], { env: { DATABASE_URL: "open-sesame-42" } });

    assertFailure(flag, 2, /--database-url is not the URL of a Postgres database/);
    assertFailure(env, 2, /DATABASE_URL is not the URL of a Postgres database/);
    assert.ok(!`${flag.err}${env.err}`.includes("sesame"));
  });

  it("neither an address nor a local database: exit 3 and two ways out", async () => {
    assertFailure(
      await cli(["jobs", "list"], { cwd: folder }),
      3,
      /There is no database to look at[\s\S]*millrace dev <app>/,
    );
  });

  it("the port of the local Postgres is taken: exit 3", async () => {
    const server = createServer();
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const address = server.address();
    assert.ok(typeof address === "object" && address);
    try {
      const run = await cli(["dev", APP, "--port", String(address.port)], { cwd: folder });
      assertFailure(run, 3, new RegExp(`Port ${address.port} is in use`));
    } finally {
      server.close();
    }
  });

  it("an application that is missing, broken or empty: what is wrong with it", async () => {
    const write = async (name: string, text: string): Promise<string> => {
      await writeFile(join(folder, name), text);
      return name;
    };
    const work = async (app: string): Promise<CliRun> => cli(["work", app], { cwd: folder });

    assertFailure(await work("nowhere.ts"), 2, /There is no file nowhere.ts/);
    assertFailure(
      await work(await write("none.mjs", "export const x = 1")),
      2,
      /does not export handlers/,
    );
    assertFailure(
      await work(await write("empty.mjs", "export const handlers = []")),
      2,
      /the array is empty/,
    );
    assertFailure(
      await work(await write("wrong.mjs", "export const handlers = [() => 1]")),
      2,
      /handlers\[0\], which implement\(\) did not make/,
    );
    assertFailure(
      await work(await write("throws.mjs", "throw new Error('no key')")),
      1,
      /throws.mjs can't be loaded: no key\n {2}why {2}.*throws.mjs:1/,
    );
    assertFailure(
      await work(await write("bad.mjs", "export const = 1")),
      1,
      /bad.mjs can't be loaded/,
    );
  });
});

describeWithDatabase("millrace with a database or an application that is not right", (context) => {
  const millrace = (...argv: string[]): Promise<CliRun> =>
    cli(argv, { env: { DATABASE_URL: context.db.url } });

  const withVersion = async (version: number, look: () => Promise<void>): Promise<void> => {
    const set = (value: number): Promise<unknown> =>
      context.db.sql.unsafe(
        ["schema_version", "serves_version"]
          .map(
            (name) =>
              `create or replace function queue.${name}() returns integer language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$ select ${value} $$`,
          )
          .join(";"),
      );
    await set(version);
    try {
      await look();
    } finally {
      await set(1);
    }
  };

  it("a wrong password: exit 3, and neither password is told", async () => {
    const url = new URL(context.db.url);
    url.password = "open-sesame-42";

    const run = await cli(["stats", "--database-url", url.href]);

    assertFailure(run, 3, /refuses to let us in: password authentication failed/);
    assert.ok(!run.err.includes("sesame"));
  });

  it("an unknown database: exit 3", async () => {
    const url = new URL(context.db.url);
    url.pathname = "/nowhere";

    assertFailure(
      await cli(["stats", "--database-url", url.href]),
      3,
      /database "nowhere" does not exist/,
    );
  });

  it("an older or a newer schema: exit 4, and which side has to move", async () => {
    await withVersion(0, async () => {
      assertFailure(
        await millrace("jobs", "list"),
        4,
        /older \(version 0\)[\s\S]*millrace migrate up/,
      );
      assertFailure(await millrace("work", APP, "--once"), 4, /older \(version 0\)/);
    });
    await withVersion(99, async () => {
      assertFailure(
        await millrace("jobs", "list"),
        4,
        /newer \(version 99\)[\s\S]*Update the millrace package/,
      );
      assertFailure(await millrace("dev", APP, "--once"), 4, /newer \(version 99\)/);
      assertFailure(await millrace("migrate", "up"), 4, /newer \(version 99\)/);
    });
  });

  it("a queue that was installed without a record of its migrations: exit 4, and dev works with it", async () => {
    assertFailure(await millrace("migrate", "up"), 4, /no migration is recorded as applied/);
    assert.equal((await millrace("dev", APP, "--once", "--no-seed")).code, 0);
  });

  it("a role that may not do it: exit 1, and whom to ask", async () => {
    const url = await context.db.loginUrl("millrace_worker");

    assertFailure(
      await cli(["stats", "--database-url", url]),
      1,
      /permission denied[\s\S]*millrace doctor/,
    );
  });

  it("an unknown job or queue: exit 1", async () => {
    assertFailure(await millrace("why", "424242"), 1, /Job 424242 does not exist/);
    assertFailure(await millrace("jobs", "show", "424242"), 1, /Job 424242 does not exist/);
    assertFailure(await millrace("queues", "pause", "no-such"), 1, /unknown queue: 'no-such'/);
  });

  it("a seed that fails: which one, and why", async () => {
    const run = await cli(["dev", FAILING_SEED, "--once"], {
      env: { DATABASE_URL: context.db.url },
    });

    assertFailure(
      run,
      1,
      /seed\(\) of .* failed: Payload is invalid at to: must be there\n {2}fix .*--no-seed/,
    );
  });

  it("a stop in the middle of a command: exit 130", async () => {
    const run = await cli(["jobs", "list"], {
      env: { DATABASE_URL: context.db.url },
      stop: AbortSignal.abort(),
    });

    assertFailure(run, 130, /Interrupted/);
  });
});
