/**
 * The whole way on one machine: enqueue by SQL, the doorbell, the Edge Function `queue-worker` under Deno, a routed function under Deno, and
 * back. The functions are those of this repository; pg_net and Vault are the local stand-ins.
 */
import assert from "node:assert/strict";
import { cp, symlink } from "node:fs/promises";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { fileURLToPath } from "node:url";
import { connect } from "../../src/db/postgres-js.ts";
import type { Sql } from "../../src/db/sql.ts";
import {
  type LocalPlatformHandle,
  startLocalPlatform,
} from "../../src/local/start-local-platform.ts";
import { makeProject, type Project } from "../local/project.ts";
import { eventually } from "../support/eventually.ts";
import { describeWithDatabase } from "../support/suite.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SAMPLES = 15;

/** Routed functions that answer as their payload says. */
const ROUTED = {
  "say-status/deno.json": '{ "imports": {} }\n',
  "say-status/index.ts": `
    export default {
      async fetch(request: Request): Promise<Response> {
        const { payload } = await request.json();
        if (payload.status === undefined) throw new Error("no status");
        return Response.json({ error: "the pump is dry", n: payload.n }, { status: payload.status });
      },
    };`,
  "do-guarded/deno.json": `{ "imports": { "millrace/functions": "../../../src/http/functions.ts" } }\n`,
  "do-guarded/index.ts": `
    import { jobFunction, senderAccessOf } from "millrace/functions";
    const access = senderAccessOf((name) => Deno.env.get(name));
    export default { fetch: jobFunction<{ n: number }>({ access }, ({ payload, progress }) => {
      progress(50, "half way");
      return { doubled: payload.n * 2 };
    }) };`,
};

describeWithDatabase(
  "from SQL to a routed function and back",
  (context) => {
    let project: Project;
    let sql: Sql;
    let platform: LocalPlatformHandle;
    const log: string[] = [];
    before(async () => {
      project = await makeProject(ROUTED);
      await cp(
        join(ROOT, "supabase/functions/queue-worker"),
        join(project.dir, "supabase/functions/queue-worker"),
        { recursive: true },
      );
      await symlink(join(ROOT, "src"), join(project.dir, "src"));
      sql = connect(context.db.url);
      platform = await startLocalPlatform({
        projectDir: project.dir,
        sql,
        databaseUrl: context.db.url,
        hasStandIns: true,
        env: process.env,
        port: 0,
        onEvent: (event) => void log.push(JSON.stringify(event)),
      });
      await Promise.all(
        ["queue-worker", "say-status", "do-guarded"].map((name) => platform.server.warm(name)),
      );
    });
    after(async () => {
      await platform?.stop();
      await sql?.close();
      await project?.remove();
    });

    async function enqueue(type: string, payload: unknown, maxRetries = 0): Promise<string> {
      const [row] = await context.db.sql`
        select public.enqueue_job(${type}, ${context.db.sql.json(payload as never)}, p_max_retries => ${maxRetries})::text as id`;
      return row?.["id"];
    }

    async function ended(
      id: string,
    ): Promise<{ status: string; result: unknown; last_error: string }> {
      return eventually(
        async () => {
          const [row] = await context.db.sql<
            { status: string; result: unknown; last_error: string }[]
          >`select status, result, last_error from public.job_queue
            where id = ${id} and status in ('completed', 'failed')`;
          return row;
        },
        { timeoutMs: 30_000, intervalMs: 10 },
      ).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${log.join("\n")}`);
      });
    }

    /** Until the worker has run dry and armed its bell. */
    async function idle(): Promise<void> {
      await eventually(async () => {
        const [row] = await context.db.sql`
          select exists (select from queue.bells where queue_id = 0)
            and not exists (select from queue.workers where is_registered) as is_idle`;
        return row?.["is_idle"];
      });
    }

    it("takes less than a second at the median, on an idle system", async (test) => {
      // The first ring comes with a tick: it finds nothing due and arms the bell.
      await context.db.sql`select public.trigger_queue_worker()`;
      const times: number[] = [];
      for (let n = 0; n < SAMPLES; n += 1) {
        await idle();
        const from = performance.now();
        const { status, result } = await ended(await enqueue("do_guarded", { n }));
        times.push(performance.now() - from);
        assert.deepEqual([status, result], ["completed", { doubled: n * 2 }]);
      }
      times.sort((one, other) => one - other);
      const median = times[Math.floor(SAMPLES / 2)] ?? Infinity;
      test.diagnostic(
        `median ${Math.round(median)} ms, longest ${Math.round(times.at(-1) ?? 0)} ms`,
      );
      assert.ok(median < 1_000, `${median} ms`);
    });

    it("turns each real answer into its line", async () => {
      await context.db
        .sql`select public.set_job_route('unplugged', p_url => 'http://127.0.0.1:1/x')`;
      const lines: Readonly<Record<string, RegExp>> = {
        say_status: /^Function execution failed: the pump is dry\. Check function logs\.$/,
        never_deployed: /^Edge Function not found\. Verify function deployment: never-deployed$/,
        unplugged:
          /^Network error calling 127\.0\.0\.1:1: .+\. Check Supabase infrastructure status\.$/,
      };
      for (const [type, line] of Object.entries(lines)) {
        const { status, last_error } = await ended(await enqueue(type, { status: 500 }));
        assert.equal(status, "failed");
        assert.match(last_error, line);
      }
      const refused = await ended(await enqueue("say_status", { status: 401 }));
      assert.equal(
        refused.last_error,
        "Authorization failed. Check SUPABASE_SERVICE_ROLE_KEY configuration.",
      );
    });

    it("keeps the outcome of each ring", async () => {
      await eventually(async () => {
        await context.db.sql`select public.trigger_queue_worker()`;
        const [row] = await context.db.sql`
          select count(*)::integer as rings, count(*) filter (where status_code = 202)::integer as good
          from queue.rings where finished_at is not null`;
        return row?.["rings"] > SAMPLES / 2 && row?.["good"] === row?.["rings"];
      });
    });
  },
  { pooler: false },
);
