/**
 * The contract: every function and view, word by word, and each function called by name as
 * `supabase.rpc` calls it. What is listed here can't change without breaking somebody.
 */
import assert from "node:assert/strict";
import { before, it } from "node:test";
import type { TestSql } from "../support/connect.ts";
import { describeOnEachServer } from "../support/suite.ts";
import { rigOf } from "./rig.ts";
import { rpc } from "./rpc.ts";

const CLAIMED =
  "TABLE(id bigint, type text, queue text, priority text, payload jsonb, tenant_id text, attempt integer, max_retries integer, created_at timestamptz, lease_id bigint, lease_expires_at timestamptz)";
const DEAD_LETTER_FILTER =
  "p_ids bigint[] = NULL, p_type text = NULL, p_tenant_id text = NULL, p_fingerprint text = NULL, p_failed_before timestamptz = NULL, p_limit integer = 1000, p_dry_run boolean = false, p_reason text = NULL";

const FUNCTIONS: readonly (readonly [signature: string, returns: string])[] = [
  ["cancel_job(p_job_id bigint, p_reason text = NULL)", "text"],
  [
    "claim_next_job(p_worker_id text, p_tenant_id text = NULL, p_lease_seconds numeric = 60)",
    CLAIMED,
  ],
  ["cleanup_stuck_jobs()", "integer"],
  ["complete_job(p_job_id bigint, p_result jsonb = NULL, p_lease_id bigint = NULL)", "boolean"],
  [
    "enqueue_job(p_type text, p_payload jsonb = '{}', p_priority text = 'normal', p_scheduled_at timestamptz = NULL, p_tenant_id text = NULL, p_queue text = NULL, p_max_retries integer = NULL, p_depends_on bigint[] = NULL, p_idempotency_key text = NULL, p_options jsonb = NULL)",
    "bigint",
  ],
  ["enqueue_jobs(p_jobs jsonb)", "TABLE(ordinal integer, id bigint, outcome text)"],
  ["explain_job(p_job_id bigint)", "jsonb"],
  [
    "fail_job(p_job_id bigint, p_error text = NULL, p_retryable boolean = true, p_retry_after_seconds numeric = NULL, p_lease_id bigint = NULL)",
    "text",
  ],
  [
    "get_next_job(p_worker_id text, p_types text[] = NULL, p_batch integer = 1, p_tenant_id text = NULL, p_lease_seconds numeric = 60)",
    CLAIMED,
  ],
  ["pause_queue(p_queue text, p_reason text = NULL)", "boolean"],
  [`purge_jobs(${DEAD_LETTER_FILTER})`, "integer"],
  ["queue_health()", "jsonb"],
  [
    "queue_stats(p_queue text = NULL)",
    "TABLE(queue text, is_paused boolean, pending bigint, scheduled bigint, blocked bigint, processing bigint, fetched bigint, completed_last_hour bigint, failed_last_hour bigint, retried_last_hour bigint, dead_letters bigint, oldest_pending_seconds double precision)",
  ],
  [
    `redrive_jobs(${DEAD_LETTER_FILTER}, p_with_descendants boolean = false)`,
    "TABLE(id bigint, new_id bigint, type text, tenant_id text, failed_at timestamptz, last_error text)",
  ],
  ["remove_job_route(p_type text, p_tenants text[] = NULL)", "boolean"],
  [
    "report_progress(p_job_id bigint, p_percent numeric = NULL, p_message text = NULL, p_data jsonb = NULL, p_lease_id bigint = NULL)",
    "boolean",
  ],
  ["resume_queue(p_queue text)", "boolean"],
  ["retry_job(p_job_id bigint, p_reason text = NULL, p_with_descendants boolean = false)", "text"],
  [
    "set_job_route(p_type text, p_function text = NULL, p_url text = NULL, p_tenants text[] = NULL, p_timeout_seconds numeric = NULL, p_headers jsonb = '{}', p_method text = 'POST', p_report_seconds numeric = NULL, p_enabled boolean = true, p_batch integer = 1)",
    "integer",
  ],
  [
    "trigger_queue_worker(p_action text = 'process', p_type text = NULL, p_batch integer = NULL)",
    "text",
  ],
];

const VIEWS: Readonly<Record<string, string>> = {
  job_dead_letter:
    "id bigint, type text, queue text, priority text, payload jsonb, tenant_id text, attempts integer, max_retries integer, last_error text, errors jsonb, fingerprint text, redrive_count integer, created_at timestamptz, failed_at timestamptz, options jsonb",
  job_queue:
    "id bigint, type text, queue text, status text, priority text, payload jsonb, tenant_id text, scheduled_at timestamptz, attempts integer, max_retries integer, created_at timestamptz, started_at timestamptz, finished_at timestamptz, worker_id text, last_error text, error jsonb, result jsonb, progress_percent numeric(5,2), progress_message text, progress_data jsonb, depends_on bigint[], options jsonb",
  job_status_history:
    "job_id bigint, from_status text, to_status text, at timestamptz, attempt integer, worker_id text, actor text, reason text, seq bigint, part integer, note jsonb",
  queue_jobs:
    "id bigint, job_type text, status text, tenant_id text, priority text, payload jsonb, attempts integer, max_attempts integer, error_message text, result jsonb, scheduled_at timestamptz, created_at timestamptz, started_at timestamptz, completed_at timestamptz",
};

function shorten(text: string): string {
  return text
    .replaceAll("timestamp with time zone", "timestamptz")
    .replaceAll(/ DEFAULT ('[^']*'|\w+)(::[\w ]+(\[\])?)?/g, " = $1");
}

describeOnEachServer("the contract", (context) => {
  it("has these functions, with these parameters and defaults, and no others", async () => {
    const rows = await context.db.sql<{ signature: string; returns: string }[]>`
      select format('%s(%s)', p.proname, pg_get_function_arguments(p.oid)) as signature,
        pg_get_function_result(p.oid) as returns
      from pg_proc as p where p.pronamespace = 'public'::regnamespace
      order by p.proname collate "C"`;

    assert.deepEqual(
      rows.map(({ signature, returns }) => [shorten(signature), shorten(returns)]),
      FUNCTIONS,
    );
  });

  it("has these views, with these columns in this order, and no others", async () => {
    const rows = await context.db.sql<{ name: string; columns: string }[]>`
      select c.relname as name,
        string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum) as columns
      from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0
      where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'
      group by c.relname`;

    assert.deepEqual(
      Object.fromEntries(rows.map(({ name, columns }) => [name, shorten(columns)])),
      VIEWS,
    );
  });
});

describeOnEachServer("supabase.rpc, as service_role", (context) => {
  let sql: TestSql;
  before(() => {
    sql = context.db.connectAs("service_role");
  });
  const call = (name: string, args?: Record<string, unknown>) => rpc(sql, name, args);
  const enqueue = async (type: string, more: Record<string, unknown> = {}) =>
    Number(await call("enqueue_job", { p_type: type, ...more }));
  const claim = async (type: string, more: Record<string, unknown> = {}) => {
    const answer = await call("get_next_job", { p_worker_id: "w", p_types: [type], ...more });
    // The columns of a claim are told by the list of functions above.
    return (answer as { id: number; lease_id: number; payload: unknown; attempt: number }[])[0];
  };

  it("enqueue_job takes type, payload and priority alone", async () => {
    const id = await call("enqueue_job", {
      p_type: "email",
      p_payload: { to: "ada" },
      p_priority: "high",
    });

    const job = await rigOf(context.db).row(String(id));
    assert.deepEqual([job.type, job.payload, job.priority], ["email", { to: "ada" }, "high"]);
  });

  it("enqueue_job takes all of its parameters by name", async () => {
    const parent = await enqueue("parent");

    const args = {
      p_type: "full",
      p_payload: [1],
      p_priority: "low",
      p_scheduled_at: "2100-01-01T00:00:00Z",
      p_tenant_id: "acme",
      p_queue: "line",
      p_max_retries: 9,
      p_depends_on: [parent],
      p_idempotency_key: "once",
      p_options: { timeout_ms: 5 },
    };
    const id = await call("enqueue_job", args);

    assert.equal(await call("enqueue_job", args), id);
    const job = await rigOf(context.db).row(String(id));
    assert.deepEqual(
      [
        job.payload,
        job.priority,
        job.tenant_id,
        job.queue,
        job.max_retries,
        job.depends_on,
        job.options,
      ],
      [[1], "low", "acme", "line", 9, [String(parent)], { timeout_ms: 5 }],
    );
    assert.equal(job.scheduled_at.toISOString(), "2100-01-01T00:00:00.000Z");
  });

  it("enqueue_jobs answers a row for each element", async () => {
    const answer = await call("enqueue_jobs", { p_jobs: [{ type: "many" }, { type: "many" }] });

    const rows = answer as { ordinal: number; id: number; outcome: string }[];
    assert.deepEqual(
      rows.map(({ ordinal, outcome }) => [ordinal, outcome]),
      [
        [1, "created"],
        [2, "created"],
      ],
    );
  });

  it("get_next_job and complete_job take a job through", async () => {
    const id = await enqueue("through", { p_payload: { a: 1 }, p_tenant_id: "t1" });

    const job = await claim("through", { p_batch: 5, p_tenant_id: "t1", p_lease_seconds: 30 });
    const done = await call("complete_job", {
      p_job_id: id,
      p_result: { ok: true },
      p_lease_id: job?.lease_id,
    });

    assert.deepEqual([job?.id, job?.payload, job?.attempt, done], [id, { a: 1 }, 1, true]);
    assert.deepEqual((await rigOf(context.db).row(String(id))).result, { ok: true });
  });

  it("claim_next_job and fail_job put a job off", async () => {
    const id = await enqueue("off", { p_tenant_id: "only-mine", p_priority: "critical" });

    const claimed = await call("claim_next_job", {
      p_worker_id: "w",
      p_tenant_id: "only-mine",
      p_lease_seconds: 30,
    });
    const status = await call("fail_job", {
      p_job_id: id,
      p_error: "later",
      p_retryable: true,
      p_retry_after_seconds: 3600,
    });

    assert.equal((claimed as { id: number }[])[0]?.id, id);
    assert.equal(status, "scheduled");
    assert.equal(await call("retry_job", { p_job_id: id, p_reason: "now" }), "pending");
  });

  it("report_progress stores how far a job is", async () => {
    const id = await enqueue("slow");
    const job = await claim("slow");

    const stored = await call("report_progress", {
      p_job_id: id,
      p_percent: 40.5,
      p_message: "half way",
      p_data: { page: 2 },
      p_lease_id: job?.lease_id,
    });

    assert.equal(stored, true);
    const row = await rigOf(context.db).row(String(id));
    assert.deepEqual(
      [row.progress_percent, row.progress_message, row.progress_data],
      ["40.50", "half way", { page: 2 }],
    );
  });

  it("cleanup_stuck_jobs says how many it took back", async () => {
    await enqueue("stuck");
    await claim("stuck", { p_lease_seconds: 1 });
    await context.db.advance(60_000 * 60);

    const rescued = await call("cleanup_stuck_jobs");

    assert.ok(Number(rescued) >= 1);
    assert.equal(await call("cleanup_stuck_jobs"), 0);
  });

  it("cancel_job, pause_queue and resume_queue answer what became of it", async () => {
    const id = await enqueue("unwanted");

    assert.equal(await call("cancel_job", { p_job_id: id, p_reason: "why not" }), "cancelled");
    assert.equal(await call("pause_queue", { p_queue: "unwanted", p_reason: "rest" }), true);
    assert.equal(await call("resume_queue", { p_queue: "unwanted" }), true);
  });

  it("redrive_jobs and purge_jobs take all of their filters by name", async () => {
    const id = await enqueue("dead", { p_tenant_id: "t2" });
    await claim("dead");
    await call("fail_job", { p_job_id: id, p_error: "gone", p_retryable: false });
    const [dead] = await context.db
      .sql`select fingerprint from public.job_dead_letter where id = ${id}`;
    const filter = {
      p_ids: [id],
      p_type: "dead",
      p_tenant_id: "t2",
      p_fingerprint: dead?.["fingerprint"],
      p_failed_before: "2100-01-01T00:00:00Z",
      p_limit: 5,
      p_reason: "mended",
    };

    const wouldPurge = await call("purge_jobs", { ...filter, p_dry_run: true });
    const redriven = await call("redrive_jobs", { ...filter, p_dry_run: false });

    assert.equal(wouldPurge, 1);
    const [row] = redriven as Record<string, unknown>[];
    assert.deepEqual([row?.["id"], row?.["type"], row?.["last_error"]], [id, "dead", "gone"]);
    assert.equal(await call("purge_jobs", { ...filter, p_dry_run: false }), 0);
  });

  it("explain_job, queue_stats and queue_health tell how things stand", async () => {
    const id = await enqueue("told");

    const why = await call("explain_job", { p_job_id: id });
    const stats = await call("queue_stats", { p_queue: "told" });
    const health = await call("queue_health");

    assert.equal((why as { status: string }).status, "pending");
    assert.deepEqual(
      (stats as { queue: string; pending: number }[]).map(({ queue, pending }) => [queue, pending]),
      [["told", 1]],
    );
    assert.match((health as { status: string }).status, /^(ok|degraded)$/);
  });

  it("trigger_queue_worker says that nothing can be rung here", async () => {
    await enqueue("rung");

    const answer = await call("trigger_queue_worker", {
      p_action: "process",
      p_type: "rung",
      p_batch: 3,
    });

    assert.equal(answer, "unavailable");
  });
});

describeOnEachServer("a trigger of the application", (context) => {
  it("enqueues in the transaction of the change that fired it", async () => {
    const { sql } = context.db;
    await sql.unsafe(`
      create schema app;
      create table app.orders (id bigint primary key);
      create function app.send_receipt() returns trigger language plpgsql as $$
      begin
        perform public.enqueue_job(p_type => 'receipt', p_payload => jsonb_build_object('order', new.id));
        return new;
      end; $$;
      create trigger receipt after insert on app.orders for each row execute function app.send_receipt();
    `);
    await sql`insert into app.orders values (1)`;
    await sql`insert into app.orders values (2), (1)`.catch(() => undefined);

    const jobs = await sql`select payload from public.job_queue where type = 'receipt'`;

    assert.deepEqual(
      jobs.map((job) => job["payload"]),
      [{ order: 1 }],
    );
  });
});
