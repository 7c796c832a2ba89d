import assert from "node:assert/strict";
import { access, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { spawnScript } from "../support/processes.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { APP, cli, MAIN } from "./run.ts";

interface Summary {
  readonly event: string;
  readonly jobs: number;
  readonly endings: readonly { readonly ending: string; readonly jobs: number }[];
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

describeWithDatabase(
  "millrace dev --once",
  (context) => {
    it("migrates, seeds, works until nothing is left, and sums up", async () => {
      const run = await cli(["dev", APP, "--once"], { env: { DATABASE_URL: context.db.url } });

      assert.equal(run.code, 0, run.err);
      assert.match(run.out, /Millrace {2}ready in/);
      assert.match(
        run.out,
        /Database +Postgres \d+[.\d]* at 127.0.0.1:\d+\/\w+ +\d+ migrations applied/,
      );
      assert.match(run.out, /Jobs +6 types in .*app.fixture.ts\n +test.echo, test.flaky/);
      assert.match(run.out, /✓ completed at the first attempt +2 {2}test.echo × 2/);
      assert.match(run.out, /✓ completed when it was due +1 /);
      assert.match(run.out, /✓ completed after the jobs it waited for +1 /);
      assert.match(run.out, /✓ completed after retries +1 {2}test.flaky #\d+/);
      assert.match(
        run.out,
        /✗ failed: in the dead letters +1 {2}test.doomed #\d+: it can't be done/,
      );
      assert.match(run.out, /⊘ cancelled before it ran +1 {2}test.echo #\d+: not wanted/);
      assert.match(run.out, /7 jobs in .*; attempts: 5 completed, 1 retried, 1 failed\n/);
      assert.match(run.out, /Why it failed +npx millrace jobs show \d+/);
    });

    it("a second run keeps the jobs of the first and counts its own", async () => {
      const run = await cli(["dev", APP, "--once", "--json"], {
        env: { DATABASE_URL: context.db.url },
      });

      const summary = run.events<Summary>().find((one) => one.event === "summary");
      assert.equal(summary?.jobs, 7);
      assert.deepEqual(
        summary?.endings.map((one) => [one.ending, one.jobs]),
        [
          ["first_attempt", 2],
          ["when_due", 1],
          ["after_others", 1],
          ["after_retries", 1],
          ["failed", 1],
          ["cancelled_waiting", 1],
        ],
      );
      const [row] = await context.db.sql`select count(*)::int as jobs from public.job_queue`;
      assert.equal(row?.["jobs"], 14);
    });

    it("--no-seed makes no jobs", async () => {
      const run = await cli(["dev", APP, "--once", "--no-seed"], {
        env: { DATABASE_URL: context.db.url },
      });

      assert.equal(run.code, 0);
      assert.match(run.out, /schema up to date/);
      assert.match(run.out, /No jobs in /);
    });

    it("the example of `npm start` shows each way a job can end", async () => {
      const run = await cli(["dev", "examples/documents/app.ts", "--once", "--json"], {
        env: { DATABASE_URL: context.db.url },
        cwd: ROOT,
      });

      assert.equal(run.code, 0, run.err);
      const summary = run.events<Summary>().find((one) => one.event === "summary");
      assert.deepEqual(
        summary?.endings.map((one) => one.ending),
        [
          "first_attempt",
          "when_due",
          "after_others",
          "after_snooze",
          "after_retries",
          "failed",
          "cancelled_waiting",
        ],
        run.out,
      );
    });
  },
  { empty: true },
);

it("dev keeps a local Postgres, runs what a second terminal enqueues, and stops cleanly on Ctrl-C", async () => {
  const cwd = await mkdtemp(join(tmpdir(), "millrace-dev-"));
  const env = { DATABASE_URL: undefined, npm_package_name: undefined };
  try {
    const dev = spawnScript(MAIN, { args: ["dev", APP], cwd, env });
    await dev.waitFor(/Try it +npx millrace enqueue test.echo '"\w+"'/, { timeoutMs: 60_000 });
    const enqueue = spawnScript(MAIN, {
      args: ["enqueue", "test.echo", '{"from":"elsewhere"}', "--wait"],
      cwd,
      env,
    });
    await enqueue.waitFor('{"from":"elsewhere"}', { timeoutMs: 60_000 });
    assert.equal((await enqueue.exited).code, 0);
    const [, id = ""] = /Job (\d+) enqueued/.exec(enqueue.output()) ?? [];
    await dev.waitFor(new RegExp(`✓ test.echo +#${id} `));

    // npm hands on the Ctrl-C that the terminal has sent already.
    dev.signal("SIGINT");
    dev.signal("SIGINT");

    const exit = await dev.exited;
    assert.deepEqual(exit, { code: 0, signal: null }, dev.output());
    assert.match(
      dev.output(),
      /Stopping[\s\S]*what became of the jobs[\s\S]*jobs in .*; attempts: /,
    );
    await assert.rejects(access(join(cwd, ".millrace/postgres/cluster/postmaster.pid")));
  } finally {
    await rm(cwd, { recursive: true, force: true });
  }
});
