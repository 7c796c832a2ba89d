/**
 * The worker over HTTP, measured: `npm run bench:edge [-- --rounds 5]`. Each figure is of this machine and this run; the Postgres is one of
 * its own with fsync on, isolates and functions are Deno processes.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { migrate } from "../src/db/migrate.ts";
import { connect } from "../src/db/postgres-js.ts";
import { registerWorker } from "../src/db/sign-in.ts";
import type { Sql } from "../src/db/sql.ts";
import { advance } from "../src/db/worker-functions.ts";
import { startLocalPlatform } from "../src/local/start-local-platform.ts";
import { startPostgres } from "./postgres.ts";
import { cpuSeconds } from "./proc.ts";
import { median } from "./statistics.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const DENO = join(ROOT, "node_modules/.bin/deno");
const ISOLATE = join(ROOT, "tests/isolates/isolate.fixture.ts");
const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" } } });
const NOTHING_DONE = {
  ...{ wholeLeases: null, wholeSizes: null, wholeElapsedMs: null, wholeResults: null },
  ...{ doneLeases: null, doneIds: null, doneElapsedMs: null, doneResults: null, rest: null },
  ...{ queueIds: null, exceptQueueIds: null, tenantId: null, perTenant: null },
} as const;
const ROUNDS = Number(values.rounds);
const NOOPS = 10_000;
const VISITS = 3_000;
const CLAIMS = 500;
const LOAD_SECONDS = 20;
const LOAD_RATE = 200;

/** Starts a Deno program and resolves with the port that it prints. */
async function deno(args: readonly string[]): Promise<{ child: ChildProcess; port: string }> {
  const permissions = ["--allow-net", "--allow-env", "--allow-sys", "--allow-read"];
  const child = spawn(DENO, ["run", "--no-check", "--quiet", ...permissions, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [first] = await once(child.stdout as NodeJS.ReadableStream, "data");
  return { child, port: /(\d+)\s*$/.exec(String(first))?.[1] ?? "" };
}

async function enqueue(sql: Sql, type: string, count: number): Promise<void> {
  await sql.query(
    `select public.enqueue_jobs((select jsonb_agg(jsonb_build_object('type', $1::text, 'payload', '{"n": 1}'::jsonb))
       from generate_series(1, $2::text::integer)))`,
    [type, String(count)],
  );
}

async function invoke(
  port: string,
  query: string,
): Promise<{ completed: number; duration_ms: number }> {
  const headers = { authorization: "Bearer service" };
  const response = await fetch(`http://127.0.0.1:${port}/${query}`, { method: "POST", headers });
  return (await response.json()) as { completed: number; duration_ms: number };
}

/** Milliseconds of so many claims of ten jobs, one after the other, as the worker makes them. */
async function claimTimes(sql: Sql, type: string): Promise<number[]> {
  const worker = {
    name: `claims-${type}`,
    details: {},
    queues: null,
    types: [type],
    tenantId: null,
  };
  const { worker: id, typeIds } = await registerWorker(sql, worker);
  const request = { ...NOTHING_DONE, worker: id, typeIds: `{${typeIds.join(",")}}`, limit: 10 };
  const times: number[] = [];
  let mark: string | null = null;
  for (let n = 0; n < CLAIMS; n += 1) {
    const from = performance.now();
    const { answer } = await advance(sql, { ...request, leaseMs: 30_000, mark });
    times.push(performance.now() - from);
    mark = answer.mark && JSON.stringify(answer.mark);
    if (answer.jobs.length !== 10) throw new Error(`${answer.jobs.length} jobs claimed`);
  }
  return times.sort((one, other) => one - other);
}

const at = (sorted: readonly number[], part: number): string =>
  (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN).toFixed(1);

const functionFile = join(await mkdtemp(join(tmpdir(), "millrace-edge-")), "visit.ts");
await writeFile(
  functionFile,
  `Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, async (request) => {
    await request.json();
    return Response.json({ seen: true });
  });`,
);
const store = await startPostgres("system");
const visit = await deno([functionFile]);
try {
  console.log(`${cpus().length} × ${cpus()[0]?.model}; ${store.version}; Node ${process.version}`);
  const rates = { noop: [] as number[], visit: [] as number[] };
  for (let round = 1; round <= ROUNDS; round += 1) {
    const url = await store.fresh(`edge_${round}`);
    const sql = connect(url, { max: 2 });
    await migrate(sql);
    const functionsUrl = `http://127.0.0.1:${visit.port}`;
    const isolate = await deno([ISOLATE, url, functionsUrl, `round-${round}`, "600000"]);
    for (const [type, count] of [
      ["noop", 500],
      ["visit", 200],
      ["noop", NOOPS],
      ["visit", VISITS],
    ] as const) {
      await enqueue(sql, type, count);
      const cpuBefore = cpuSeconds(isolate.child.pid);
      const report = await invoke(isolate.port, `?type=${type}&batch=${type === "noop" ? 10 : 24}`);
      if (report.completed !== count) throw new Error(`${report.completed} of ${count} completed`);
      const rate = (count / report.duration_ms) * 1_000;
      // The first of each kind warms up.
      if (count >= VISITS) rates[type].push(rate);
      const cpuMs = ((cpuSeconds(isolate.child.pid) - cpuBefore) / count) * 1_000;
      if (count >= VISITS) {
        console.log(
          `round ${round}  ${type}  ${Math.round(rate)} jobs/s, ${cpuMs.toFixed(3)} ms of processor time for each`,
        );
      }
    }
    await enqueue(sql, "idle_claim", CLAIMS * 10);
    const quiet = await claimTimes(sql, "idle_claim");
    await enqueue(sql, "busy_claim", CLAIMS * 10);
    await enqueue(sql, "noop", NOOPS * 2);
    const [busy] = await Promise.all([
      claimTimes(sql, "busy_claim"),
      invoke(isolate.port, "?type=noop&batch=10"),
    ]);
    console.log(
      `round ${round}  claim of 10: p50 ${at(quiet, 0.5)} ms, p99 ${at(quiet, 0.99)} ms; beside a drain p50 ${at(busy, 0.5)}, p99 ${at(busy, 0.99)}`,
    );
    isolate.child.kill("SIGKILL");
    await sql.close();
    await store.drop(url);
  }
  console.log(
    `median: ${Math.round(median(rates.noop))} no-op jobs a second here, ${Math.round(median(rates.visit))} sent to a function`,
  );
  await invocations();
} finally {
  visit.child.kill("SIGKILL");
  await store.stop();
}

/** How often the doorbell rings while jobs come one by one. */
async function invocations(): Promise<void> {
  const url = await store.fresh("edge_rings");
  const sql = connect(url, { max: 4 });
  await migrate(sql);
  const dir = await mkdtemp(join(tmpdir(), "millrace-rings-"));
  await cp(
    join(ROOT, "supabase/functions/queue-worker"),
    join(dir, "supabase/functions/queue-worker"),
    {
      recursive: true,
    },
  );
  await symlink(join(ROOT, "src"), join(dir, "src"));
  await symlink(join(ROOT, "node_modules"), join(dir, "node_modules"));
  const options = { projectDir: dir, sql, databaseUrl: url, hasStandIns: true, port: 0 } as const;
  const platform = await startLocalPlatform({ ...options, env: process.env });
  await platform.server.warm("queue-worker");
  await sql.query(`select public.set_job_route('visit', p_url => $1::text)`, [
    `http://127.0.0.1:${visit.port}/`,
  ]);
  await sql.query(`select public.trigger_queue_worker()`);
  const jobs = LOAD_SECONDS * LOAD_RATE;
  for (let n = 0; n < jobs; n += 1) {
    void sql.query(`select public.enqueue_job('visit')`);
    await delay(1_000 / LOAD_RATE);
  }
  await delay(2_000);
  const [row] = await sql.query(
    `select (select count(*) from queue.rings)::text as rings,
       (select count(*) from public.job_queue where status = 'completed')::text as done`,
  );
  const rings = Number(row?.["rings"]);
  console.log(
    `${LOAD_RATE} jobs a second for ${LOAD_SECONDS} s: ${row?.["done"]} of ${jobs} done, ${rings} rings, ${((rings / jobs) * 1_000).toFixed(2)} per 1,000 jobs`,
  );
  await platform.stop();
  await sql.close();
  await rm(dir, { recursive: true, force: true });
}
