import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { isAlive } from "../../src/embedded/process-alive.ts";
import { assertEvents } from "../docs/documented.ts";
import { makeProject, type Project } from "../local/project.ts";
import { eventually } from "../support/eventually.ts";
import { spawnScript } from "../support/processes.ts";
import { describeWithDatabase } from "../support/suite.ts";
import { APP, type CliRun, cli, MAIN } from "./run.ts";

/** A queue worker as small as can be: claims what is there, sends each job to its function, completes it with the answer. */
const QUEUE_WORKER = `
import postgres from "postgres";

const sql = postgres(Deno.env.get("SUPABASE_DB_URL")!, { max: 1, prepare: false });

async function work(): Promise<void> {
  for (const job of await sql\`select id, type, lease_id, payload from public.get_next_job('fixture', p_batch => 10)\`) {
    const url = Deno.env.get("SUPABASE_URL") + "/functions/v1/" + job.type.replaceAll("_", "-");
    const response = await fetch(url, {
      method: "POST",
      headers: { authorization: "Bearer " + Deno.env.get("SUPABASE_SERVICE_ROLE_KEY") },
      body: JSON.stringify(job.payload),
    });
    const result = await response.text();
    await sql\`select public.complete_job(\${job.id}, \${result}::text::jsonb, \${job.lease_id})\`;
    console.log("sent one to", new URL(url).pathname);
  }
}

Deno.serve((request) => {
  const given = [request.headers.get("authorization")?.replace("Bearer ", ""), request.headers.get("x-queue-token")];
  if (!given.includes(Deno.env.get("QUEUE_WORKER_TOKEN"))) return new Response(null, { status: 401 });
  EdgeRuntime.waitUntil(work());
  return new Response(null, { status: 202 });
});
`;

const FILES = {
  "queue-worker/deno.json": '{ "imports": { "postgres": "npm:postgres@3.4.9" } }\n',
  "queue-worker/index.ts": QUEUE_WORKER,
  "greet-warmly/index.ts": `
    export default {
      async fetch(request: Request): Promise<Response> {
        if (request.headers.get("authorization") !== "Bearer " + Deno.env.get("SUPABASE_SERVICE_ROLE_KEY")) {
          return new Response(null, { status: 401 });
        }
        const { name } = await request.json();
        console.error("greets", name, Deno.env.get("QUEUE_WORKER_TOKEN"));
        return Response.json({ greeting: "hello " + name });
      },
    };`,
};

interface Ready {
  readonly event: string;
  readonly app: string | null;
  readonly functions_url: string;
  readonly functions: readonly string[];
  readonly has_doorbell: boolean;
}

/** A run of dev that goes on until it is stopped. */
interface Running {
  said(): string;
  stop(): Promise<CliRun>;
}

describeWithDatabase(
  "millrace dev with functions",
  (context) => {
    let project: Project;
    before(async () => {
      project = await makeProject(FILES);
    });
    after(() => project.remove());

    const start = (...argv: string[]): Running => {
      const end = new AbortController();
      let text = "";
      const run = cli(["dev", ...argv], {
        cwd: project.dir,
        env: { ...process.env, DATABASE_URL: context.db.url, NO_COLOR: "1" },
        stop: end.signal,
        onText: (more) => {
          text += more;
        },
      });
      return {
        said: () => text,
        async stop() {
          end.abort();
          return run;
        },
      };
    };
    const has = async (schema: string): Promise<boolean> => {
      const [row] = await context.db.sql`select to_regnamespace(${schema}) is not null as there`;
      return row?.["there"] === true;
    };

    it("leaves a database that was given alone, unless it is told otherwise", async () => {
      const dev = start();
      await eventually(() => dev.said().includes("Ctrl-C"), { timeoutMs: 20_000 });

      assert.match(dev.said(), /functions\/v1\/queue-worker +nobody rings it/);
      assert.match(dev.said(), /functions\/v1\/greet-warmly\n/);
      assert.deepEqual([await has("net"), await has("vault")], [false, false]);

      const { code, err } = await dev.stop();
      assert.equal(code, 0, err);
      const other = await cli(["jobs", "list"], { cwd: project.dir });
      assert.match(other.err, /There is no database to look at/, "its keys are no database");
    });

    it("runs the whole way: a job, the doorbell, the queue worker, the function it is routed to", async () => {
      const dev = start("--stand-ins");
      try {
        await eventually(() => dev.said().includes("Ctrl-C"), { timeoutMs: 20_000 });
        assert.match(dev.said(), /functions\/v1\/queue-worker +rung when jobs are enqueued/);
        assert.match(dev.said(), /Try it +.* enqueue greet_warmly '\{\}'/);

        const [job] = await context.db.sql`
          select public.enqueue_job('greet_warmly', '{"name": "Ada"}') as id, public.trigger_queue_worker() as rung`;
        assert.equal(job?.["rung"], "rung");

        const result = await eventually(
          async () => {
            const [row] = await context.db.sql`
              select result from public.job_queue where id = ${job?.["id"]} and status = 'completed'`;
            return row?.["result"];
          },
          { timeoutMs: 20_000 },
        );
        assert.deepEqual(result, { greeting: "hello Ada" });
        await eventually(() => dev.said().includes("sent one"));
      } finally {
        const { code, err } = await dev.stop();
        assert.equal(code, 0, err);
      }
      assert.match(dev.said(), /\[queue-worker\] started in /);
      assert.match(dev.said(), /\[queue-worker\] sent one to \/functions\/v1\/greet-warmly\n/);
      assert.match(dev.said(), /\[greet-warmly\] greets Ada \*\*\*\n/, "tokens are masked");
      const [left] = await context.db.sql`
        select count(*)::int as left from vault.decrypted_secrets where name = 'queue_worker_url'`;
      assert.equal(left?.["left"], 0, "nobody is there to be rung any more");
    });

    it("serves functions beside an application; --json tells the same, keys only when asked", async () => {
      const run = await cli(["dev", APP, "--once", "--json", "--show-keys"], {
        cwd: project.dir,
        env: { ...process.env, DATABASE_URL: context.db.url },
      });

      assert.equal(run.code, 0, run.err);
      const events = run.events<Ready & Record<string, unknown>>();
      // A function that is quick to start may be told of before.
      const [ready, keys] = events.slice(events.findIndex(({ event }) => event === "ready"));
      assert.deepEqual(ready?.functions, ["greet-warmly", "queue-worker"]);
      assert.match(ready?.functions_url ?? "", /^http:\/\/127\.0\.0\.1:\d+\/functions\/v1$/);
      assert.match(String(keys?.["secret_key"]), /^sb_secret_[\w-]{32}$/);
      await assertEvents(events, ["ready", "attempt", "summary"]);
    });

    it("says what is missing when there is nothing to do", async () => {
      for (const argv of [["--no-functions"], ["--once"]]) {
        const run = await cli(["dev", ...argv], {
          cwd: project.dir,
          env: { ...process.env, DATABASE_URL: context.db.url },
        });
        assert.equal(run.code, 2, run.err);
        assert.match(run.err, /no application was named|--once needs an application/);
      }
    });

    it("no function outlives it, even when it is killed", async () => {
      const dev = spawnScript(MAIN, {
        args: ["dev", "--json"],
        cwd: project.dir,
        env: { DATABASE_URL: context.db.url },
      });
      try {
        const ready = await dev.waitFor('"event":"ready"');
        const [, url] = /"functions_url":"([^"]+)"/.exec(ready) ?? [];
        assert.equal((await fetch(`${url}/greet-warmly`)).status, 401);
        const output = await dev.waitFor(/function.started[\s\S]*function.started/);
        const pids = [...output.matchAll(/"pid":(\d+)/g)].map(([, pid]) => Number(pid));
        assert.deepEqual(pids.map(isAlive), [true, true]);

        await dev.kill("SIGKILL");

        await eventually(() => !pids.some(isAlive));
      } finally {
        await dev.kill();
      }
    });
  },
  { pooler: false },
);

it("dev with functions alone makes a local Postgres that rings them, and stops cleanly on Ctrl-C", async () => {
  const project = await makeProject(FILES);
  const dev = spawnScript(MAIN, {
    args: ["dev", "--json"],
    cwd: project.dir,
    env: { DATABASE_URL: undefined },
  });
  try {
    const output = await dev.waitFor('"event":"ready"', { timeoutMs: 60_000 });
    const [ready] = output
      .split("\n")
      .filter((line) => line.includes('"event":"ready"'))
      .map((line) => JSON.parse(line) as Ready);
    assert.deepEqual([ready?.app, ready?.has_doorbell], [null, true]);

    dev.signal("SIGINT");

    assert.deepEqual(await dev.exited, { code: 0, signal: null }, dev.output());
    const lines = dev.output().split("\n");
    const events = lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
    await assertEvents(events, ["ready"]);
  } finally {
    await dev.kill();
    await project.remove();
  }
});
