/**
 * The Edge Function under Deno, on the Postgres that DATABASE_URL names (with our migrations); the functions it sends jobs to are a server of this
 * file. Each test has job types of its own, so other work in the database does not disturb it, nor it that.
 */
import assert from "node:assert/strict";
import {
  connect,
  createQueueWorker,
  defineJob,
  implement,
  implementBatch,
  type QueueWorkerOptions,
  type RunReport,
} from "millrace/edge";

const DATABASE_URL = Deno.env.get("DATABASE_URL");
const SERVICE_KEY = "service-role-key";
const ADDRESS = "http://localhost/functions/v1/queue-worker";
const RUN = crypto.randomUUID().slice(0, 8);

if (!DATABASE_URL)
  console.log("skipped: DATABASE_URL names no Postgres with the queue's migrations");

type Answer = (body: { id: string; type: string; attempt: number }) => Response | Promise<Response>;
let answer: Answer = () => Response.json({ done: true });
const functions = Deno.serve(
  { hostname: "127.0.0.1", port: 0, onListen: () => undefined },
  async (request) => answer(await request.json()),
);
const projectUrl = `http://127.0.0.1:${(functions.addr as { port: number }).port}`;

const ENVIRONMENT = {
  SUPABASE_DB_URL: DATABASE_URL ?? "",
  SUPABASE_URL: projectUrl,
  SUPABASE_SERVICE_ROLE_KEY: SERVICE_KEY,
  SUPABASE_SECRET_KEYS: '{"default":"sb_secret_one","jobs":"sb_secret_two"}',
  QUEUE_WORKER_TOKEN: "old-token, new-token",
  QUEUE_CALLBACK_SECRET: "callback-secret",
};

function check(name: string, fn: () => Promise<void>): void {
  // The function keeps its connections as long as its isolate lives.
  const options = { sanitizeOps: false, sanitizeResources: false, ignore: !DATABASE_URL };
  Deno.test({ name, fn, ...options });
}

const sql = connect(DATABASE_URL ?? "postgres://localhost/none", { max: 2, maxTransactions: 1 });
let made: { fetch(request: Request): Promise<Response> } | undefined;

/** The function as it is deployed. */
async function deployed(): Promise<{ fetch(request: Request): Promise<Response> }> {
  for (const [name, value] of Object.entries(ENVIRONMENT)) Deno.env.set(name, value);
  made ??= (await import("./index.ts")).default;
  return made;
}

/** A worker as the function makes it, with handlers of its own. */
function workerOf(options: Partial<QueueWorkerOptions>): {
  fetch(request: Request): Promise<Response>;
} {
  return createQueueWorker({
    sql,
    keys: { serviceTokens: [SERVICE_KEY], secretKeys: [], doorbellTokens: [] },
    logger: silent,
    ...options,
  });
}

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

async function run(
  worker: { fetch(request: Request): Promise<Response> },
  query: string,
): Promise<RunReport> {
  const headers = { authorization: `Bearer ${SERVICE_KEY}` };
  const response = await worker.fetch(
    new Request(`${ADDRESS}${query}`, { method: "POST", headers }),
  );
  assert.equal(response.status, 200, await response.clone().text());
  return await response.json();
}

/** Options of a job as enqueue_job takes them. */
interface Given {
  readonly payload?: unknown;
  readonly priority?: string;
  readonly maxRetries?: number;
  readonly dependsOn?: readonly string[];
  readonly options?: unknown;
}

async function enqueue(type: string, given: Given = {}): Promise<string> {
  const { payload = {}, priority = "normal", maxRetries = 3, dependsOn = [], options } = given;
  const [row] = await sql.query(
    `select public.enqueue_job(p_type => $1::text, p_payload => $2::text::jsonb, p_priority => $3::text,
       p_max_retries => $4::text::integer, p_depends_on => $5::text::bigint[], p_options => $6::text::jsonb)::text as id`,
    [
      type,
      JSON.stringify(payload),
      priority,
      String(maxRetries),
      `{${dependsOn.join(",")}}`,
      options === undefined ? null : JSON.stringify(options),
    ],
  );
  return String(row?.["id"]);
}

async function jobOf(id: string): Promise<Record<string, unknown>> {
  const [row] = await sql.query(
    `select status::text, attempts::text, last_error, result::text from public.job_queue where id = $1::text::bigint`,
    [id],
  );
  return row ?? {};
}

const SOON = { backoff: { base_ms: 1, cap_ms: 1, jitter: 0 } };

check(
  "auth: service key, any named secret key, doorbell tokens old and new; nobody else",
  async () => {
    const worker = await deployed();
    const status = async (headers: Record<string, string>, action = "process"): Promise<number> => {
      const request = new Request(`${ADDRESS}?action=${action}&type=auth_${RUN}&async=true`, {
        method: "POST",
        headers,
      });
      const response = await worker.fetch(request);
      await response.body?.cancel();
      return response.status;
    };

    assert.equal(await status({ authorization: `Bearer ${SERVICE_KEY}` }), 202);
    assert.equal(await status({ apikey: "sb_secret_two" }), 202);
    assert.equal(await status({ authorization: "Bearer old-token" }), 202);
    assert.equal(await status({ authorization: "Bearer new-token" }), 202);
    assert.equal(await status({ authorization: "Bearer new-token" }, "stats"), 401);
    assert.equal(await status({ authorization: "Bearer wrong" }), 401);
    assert.equal(await status({ authorization: `Bearer ${SERVICE_KEY}`, apikey: "wrong" }), 401);
    assert.equal(await status({ authorization: "Bearer sb_secret_one" }), 401);
    assert.equal(await status({}), 401);
  },
);

check("health and stats answer", async () => {
  const worker = await deployed();
  const headers = { authorization: `Bearer ${SERVICE_KEY}` };
  const health = await worker.fetch(new Request(`${ADDRESS}?action=health`, { headers }));
  const stats = await worker.fetch(new Request(`${ADDRESS}?action=stats`, { headers }));

  assert.equal((await health.json()).database, "reachable");
  assert.ok("statuses" in (await stats.json()));
});

check("concurrent processing: so many jobs at a time as asked for, each once", async () => {
  const type = `side_by_side_${RUN}`;
  const worker = await deployed();
  const ids = await Promise.all(Array.from({ length: 30 }, () => enqueue(type)));
  const seen: string[] = [];
  let running = 0;
  let most = 0;
  let release: () => void = () => undefined;
  const isFull = new Promise<void>((resolve) => {
    release = resolve;
  });
  answer = async ({ id }) => {
    running += 1;
    most = Math.max(most, running);
    seen.push(id);
    if (most === 10) release();
    await isFull;
    running -= 1;
    return Response.json(null);
  };

  const report = await run(worker, `?type=${type}&batch=10`);

  assert.equal(report.completed, 30);
  assert.equal(most, 10);
  assert.deepEqual(seen.sort(), ids.sort());
});

check("concurrent processing: two isolates share the work", async () => {
  const type = `shared_${RUN}`;
  const seen: string[] = [];
  const handlers = [implement(defineJob(type), ({ id }) => void seen.push(id))];
  const ids = await Promise.all(Array.from({ length: 200 }, () => enqueue(type)));

  const reports = await Promise.all([
    run(workerOf({ handlers }), `?type=${type}`),
    run(workerOf({ handlers }), `?type=${type}`),
  ]);

  assert.equal(reports[0].completed + reports[1].completed, 200);
  assert.deepEqual(seen.sort(), ids.sort());
});

check("retry: a failed job is tried again, and completes", async () => {
  const type = `moody_${RUN}`;
  const id = await enqueue(type, { options: SOON });
  answer = ({ attempt }) =>
    attempt < 3 ? Response.json({ error: "not yet" }, { status: 500 }) : Response.json({ attempt });

  const report = await run(await deployed(), `?type=${type}`);

  assert.deepEqual([report.retried, report.completed], [2, 1]);
  assert.deepEqual(await jobOf(id), {
    status: "completed",
    attempts: "3",
    last_error: null,
    result: '{"attempt": 3}',
  });
});

check("dead letter: a job that keeps failing ends there, with every error", async () => {
  const type = `hopeless_${RUN}`;
  const id = await enqueue(type, { maxRetries: 1, options: SOON });
  answer = ({ attempt }) => Response.json({ error: `no ${attempt}` }, { status: 500 });

  const report = await run(await deployed(), `?type=${type}`);

  assert.deepEqual([report.retried, report.failed], [1, 1]);
  const [letter] = await sql.query(
    `select attempts::text, errors::text from public.job_dead_letter where id = $1::text::bigint`,
    [id],
  );
  const errors = JSON.parse(String(letter?.["errors"])) as { error: { message: string } }[];
  assert.deepEqual(
    errors.map(({ error }) => error.message),
    [
      "Function execution failed: no 1. Check function logs.",
      "Function execution failed: no 2. Check function logs.",
    ],
  );
});

check("the errors of functions say what to check", async () => {
  const worker = await deployed();
  const messageOf = async (name: string, status?: number): Promise<unknown> => {
    const type = `${name}_${RUN}`;
    const id = await enqueue(type, { maxRetries: 0 });
    answer = () => Response.json({ error: "boom" }, { status: status ?? 200 });
    if (status === undefined) {
      await sql.query(`select public.set_job_route($1::text, p_url => 'http://127.0.0.1:1/')`, [
        type,
      ]);
    }
    await run(worker, `?type=${type}`);
    return (await jobOf(id))["last_error"];
  };

  assert.equal(
    await messageOf("shut", 401),
    "Authorization failed. Check SUPABASE_SERVICE_ROLE_KEY configuration.",
  );
  assert.equal(
    await messageOf("gone", 404),
    `Edge Function not found. Verify function deployment: gone-${RUN}`,
  );
  assert.equal(
    await messageOf("broken", 500),
    "Function execution failed: boom. Check function logs.",
  );
  assert.match(
    String(await messageOf("unplugged")),
    /^Network error calling 127\.0\.0\.1:1: .+\. Check Supabase infrastructure status\.$/,
  );
});

check("priority: critical before high before normal before low", async () => {
  const type = `ranked_${RUN}`;
  for (const priority of ["low", "normal", "critical", "high"]) {
    await enqueue(type, { priority, payload: { priority } });
  }
  const order: unknown[] = [];
  const job = defineJob<{ priority: string }>(type);
  const handlers = [implement(job, ({ input }) => void order.push(input.priority))];

  await run(workerOf({ handlers }), `?type=${type}&batch=1`);

  assert.deepEqual(order, ["critical", "high", "normal", "low"]);
});

check("batches: a handler gets many jobs at once", async () => {
  const type = `many_${RUN}`;
  for (let n = 0; n < 25; n += 1) await enqueue(type, { payload: { n } });
  const sizes: number[] = [];
  const job = defineJob<{ n: number }>(type);
  const handlers = [
    implementBatch(
      job,
      ({ jobs }) => {
        sizes.push(jobs.length);
        return jobs.map(({ input }) => input.n);
      },
      { maxSize: 10 },
    ),
  ];

  const report = await run(workerOf({ handlers }), `?type=${type}&batch=1`);

  assert.equal(report.completed, 25);
  assert.ok(Math.max(...sizes) > 1 && Math.max(...sizes) <= 10, String(sizes));
});

check("dependencies: a job waits for the others, and gets their results", async () => {
  const [first, second] = [`parent_${RUN}`, `child_${RUN}`];
  const parent = await enqueue(first);
  const child = await enqueue(second, { dependsOn: [parent] });
  const handlers = [
    implement(defineJob(first), () => "ground"),
    implement(defineJob(second), async ({ parents }) => (await parents())[0]?.result as string),
  ];
  const worker = workerOf({ handlers });

  assert.equal((await run(worker, `?type=${second}`)).claimed, 0);
  await run(worker, `?type=${first}`);
  await run(worker, `?type=${second}`);

  assert.equal((await jobOf(child))["result"], '"ground"');
});

check(
  "budget: near the isolate's end nothing is begun; at its end jobs go back unharmed",
  async () => {
    const type = `endless_${RUN}`;
    const id = await enqueue(type);
    const handlers = [
      implement(
        defineJob(type),
        ({ signal }) =>
          new Promise((_, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason));
          }),
      ),
    ];

    const cut = await run(workerOf({ handlers, lifeMs: 1_000 }), `?type=${type}`);
    const usage = { cpuMs: 0 };
    const greedy = (): typeof usage => {
      usage.cpuMs += 1_700;
      return { ...usage };
    };
    const worker = workerOf({ handlers, mostCpuMs: 2_000, usage: greedy });
    const spent = await run(worker, `?type=${type}`);

    assert.deepEqual([cut.released, cut.remaining, cut.ended], [1, true, "budget"]);
    assert.deepEqual([spent.claimed, spent.remaining, spent.ended], [0, true, "budget"]);
    assert.deepEqual((await jobOf(id))["status"], "pending");
    assert.deepEqual((await jobOf(id))["attempts"], "0");
  },
);
