import assert from "node:assert/strict";
import type { TestSql } from "../support/connect.ts";
import type { TestDatabase } from "../support/database.ts";

/** Fields of enqueue_job; what is left out has its default. */
export interface NewJob {
  readonly payload?: unknown;
  readonly priority?: string;
  readonly scheduledAt?: Date;
  readonly tenant?: string;
  readonly queue?: string;
  readonly maxRetries?: number;
  readonly dependsOn?: readonly string[];
  readonly key?: string;
  readonly options?: unknown;
}

/** What to claim; a single type by default means that tests of one database don't meet. */
export interface Wish {
  readonly worker?: string;
  readonly batch?: number;
  readonly tenant?: string;
  readonly seconds?: number;
}

export interface ClaimedJob {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly priority: string;
  readonly payload: unknown;
  readonly tenant_id: string | null;
  readonly attempt: number;
  readonly max_retries: number;
  readonly created_at: Date;
  readonly lease_id: string;
  readonly lease_expires_at: Date;
}

export interface JobRow {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly status: string;
  readonly priority: string;
  readonly payload: unknown;
  readonly tenant_id: string | null;
  readonly scheduled_at: Date;
  readonly attempts: number;
  readonly max_retries: number;
  readonly created_at: Date;
  readonly started_at: Date | null;
  readonly finished_at: Date | null;
  readonly worker_id: string | null;
  readonly last_error: string | null;
  readonly error: unknown;
  readonly result: unknown;
  readonly progress_percent: string | null;
  readonly progress_message: string | null;
  readonly progress_data: unknown;
  readonly depends_on: string[];
  readonly options: unknown;
}

/** One call of queue.settle_one. */
export interface Ending {
  readonly outcome: string;
  readonly detail?: Readonly<Record<string, unknown>>;
  readonly result?: unknown;
}

/** The words in which tests of the SQL core speak; each is one call of the contract. */
export interface Rig {
  readonly sql: TestSql;
  enqueue(type: string, job?: NewJob): Promise<string>;
  /** Claims jobs of these types, or of all with null. */
  claim(types: string | readonly string[] | null, wish?: Wish): Promise<ClaimedJob[]>;
  /** Claims exactly one job. */
  take(type: string, wish?: Wish): Promise<ClaimedJob>;
  /** Enqueues a job and claims it. */
  start(type: string, job?: NewJob, wish?: Wish): Promise<ClaimedJob>;
  complete(job: Leased, result?: unknown): Promise<boolean>;
  fail(
    job: Leased,
    error?: string,
    how?: { retryable?: boolean; after?: number },
  ): Promise<string | null>;
  settle(job: Leased, ending: Ending): Promise<string | null>;
  row(id: string): Promise<JobRow>;
  status(id: string): Promise<string>;
  /** "from>to" for each change of status, in order. */
  trail(id: string): Promise<string[]>;
  /** The database's time, so many milliseconds from now. */
  inMs(ms: number): Promise<Date>;
  /** Ends nothing and forgets all: no token and no lease of an earlier test is left. */
  clear(): Promise<void>;
  /** Makes the queue look busy to every claim: jobs of two more tenants are pending that nobody can have. */
  crowd(): Promise<void>;
  /** A dead letter: enqueued, claimed and failed for good. */
  bury(type: string, job?: NewJob, error?: string): Promise<string>;
}

export interface Leased {
  readonly id: string;
  readonly lease_id: string;
}

export function rigOf(db: TestDatabase, sql: TestSql = db.sql): Rig {
  const rig: Rig = {
    sql,
    async enqueue(type, job = {}) {
      const [made] = await sql<{ id: string }[]>`
        select public.enqueue_job(
          p_type => ${type}, p_payload => ${sql.json((job.payload ?? {}) as never)},
          p_priority => ${job.priority ?? "normal"}, p_scheduled_at => ${job.scheduledAt ?? null},
          p_tenant_id => ${job.tenant ?? null}, p_queue => ${job.queue ?? null},
          p_max_retries => ${job.maxRetries ?? null}, p_depends_on => ${[...(job.dependsOn ?? [])]},
          p_idempotency_key => ${job.key ?? null},
          p_options => ${job.options === undefined ? null : sql.json(job.options as never)}
        ) as id`;
      return only(made).id;
    },
    claim: (types, { worker = "w", batch = 1, tenant, seconds = 60 } = {}) =>
      sql<ClaimedJob[]>`
        select * from public.get_next_job(
          p_worker_id => ${worker}, p_types => ${typeof types === "string" ? [types] : types && [...types]},
          p_batch => ${batch}, p_tenant_id => ${tenant ?? null}, p_lease_seconds => ${seconds})`,
    async take(type, wish) {
      const jobs = await rig.claim(type, wish);
      assert.equal(jobs.length, 1, `one job of type ${type} to claim`);
      return only(jobs[0]);
    },
    async start(type, job, wish) {
      const id = await rig.enqueue(type, job);
      const claimed = await rig.take(type, wish);
      assert.equal(claimed.id, id);
      return claimed;
    },
    async complete(job, result) {
      const [row] = await sql<{ done: boolean }[]>`
        select public.complete_job(
          ${job.id}, ${result === undefined ? null : sql.json(result as never)}, ${job.lease_id}
        ) as done`;
      return only(row).done;
    },
    async fail(job, error = "boom", { retryable = true, after } = {}) {
      const [row] = await sql<{ status: string | null }[]>`
        select public.fail_job(${job.id}, ${error}, ${retryable}, ${after ?? null}, ${job.lease_id}) as status`;
      return only(row).status;
    },
    async settle(job, { outcome, detail, result }) {
      const [row] = await sql<{ status: string | null }[]>`
        select queue.settle_one(
          ${job.lease_id}, ${job.id}, ${outcome}, ${detail === undefined ? null : sql.json(detail as never)},
          ${result === undefined ? null : sql.json(result as never)}
        ) as status`;
      return only(row).status;
    },
    async row(id) {
      const rows = await sql<JobRow[]>`select * from public.job_queue where id = ${id}`;
      assert.equal(rows.length, 1, `one row for job ${id}`);
      return only(rows[0]);
    },
    status: async (id) => (await rig.row(id)).status,
    async trail(id) {
      const steps = await sql<{ step: string }[]>`
        select coalesce(from_status, '') || '>' || to_status as step
        from public.job_status_history where job_id = ${id} order by seq, part`;
      return steps.map(({ step }) => step);
    },
    inMs: async (ms) => new Date((await db.now()).getTime() + ms),
    async clear() {
      await sql`
        with ready as (delete from queue.ready), scheduled as (delete from queue.scheduled),
          waiting as (delete from queue.waiting), edges as (delete from queue.dependencies),
          bells as (delete from queue.bells), fanouts as (delete from queue.fanouts), wishes as (delete from queue.cancellations)
        delete from queue.leases`;
    },
    async crowd() {
      await rig.enqueue("crowd", { tenant: "crowd 1" });
      await rig.enqueue("crowd", { tenant: "crowd 2" });
      await sql`select public.pause_queue('crowd')`;
    },
    async bury(type, job, error = "boom") {
      const started = await rig.start(type, job);
      assert.equal(await rig.fail(started, error, { retryable: false }), "failed");
      return started.id;
    },
  };
  return rig;
}

/** The value, which must be there. */
export function only<T>(value: T | undefined): T {
  assert.ok(value !== undefined, "a row was expected");
  return value;
}

/** What Postgres said when it refused. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
}

/** The error of a statement that must be refused. */
export async function refusal(statement: PromiseLike<unknown>): Promise<Refusal> {
  try {
    await statement;
  } catch (error) {
    assert.ok(error instanceof Error && "code" in error, String(error));
    return error as unknown as Refusal;
  }
  return assert.fail("the statement was not refused");
}
