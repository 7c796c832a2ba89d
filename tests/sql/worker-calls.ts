import type { TestSql } from "../support/connect.ts";
import { only } from "./rig.ts";

/** lease, id, type, queue, priority, payload, tenant, attempt, max retries, created, scheduled, options. */
export type AdvanceJob = [
  lease: string,
  id: string,
  type: string,
  queue: string,
  priority: string,
  payload: unknown,
  tenant: string | null,
  attempt: number,
  maxRetries: number,
  createdAt: number,
  scheduledAt: number | null,
  options: unknown,
];

export interface Answer {
  readonly refused: [lease: string, id: string][];
  readonly statuses: Record<string, string>;
  readonly retry_in_ms: Record<string, number>;
  readonly now: number;
  readonly expires_at: number | null;
  readonly jobs: AdvanceJob[];
  readonly mark: unknown;
  readonly next_due_in_ms: number | null;
}

/** A call of queue.advance; what is left out has its default. */
export interface Request {
  readonly done?: readonly { id: string; lease_id: string; ms?: number }[];
  /** Parallel to `done`. */
  readonly results?: unknown;
  readonly rest?: readonly Readonly<Record<string, unknown>>[];
  readonly limit?: number;
  readonly queues?: readonly string[];
  readonly except?: readonly string[];
  readonly types?: readonly string[];
  readonly leaseMs?: number;
  readonly mark?: unknown;
}

/** Signs a worker in that serves anything. */
export async function registerWorker(sql: TestSql, name: string): Promise<number> {
  const [row] = await sql<{ id: number }[]>`
    select (queue.register_worker(${name}, null, null, null) ->> 'worker')::int as id`;
  return only(row).id;
}

export async function advance(sql: TestSql, worker: number, request: Request): Promise<Answer> {
  const { done, rest, queues, except, types } = request;
  const json = (value: unknown): string | null =>
    value === undefined || value === null ? null : JSON.stringify(value);
  const [row] = await sql<{ answer: Answer }[]>`
    select queue.advance(
      p_worker => ${worker},
      p_done_leases => ${done ? done.map((job) => job.lease_id) : null},
      p_done_ids => ${done ? done.map((job) => job.id) : null},
      p_done_elapsed_ms => ${done ? done.map((job) => job.ms ?? 5) : null},
      p_done_results => ${json(request.results)}::text::json,
      p_rest => ${json(rest)}::text::jsonb,
      p_limit => ${request.limit ?? 0},
      p_queue_ids => ${queues ? await idsOf(sql, "queues", queues) : null},
      p_except_queue_ids => ${except ? await idsOf(sql, "queues", except) : null},
      p_type_ids => ${types ? await idsOf(sql, "types", types) : null},
      p_lease_ms => ${request.leaseMs ?? 30_000},
      p_mark => ${json(request.mark)}::text::json) as answer`;
  return only(row).answer;
}

async function idsOf(
  sql: TestSql,
  table: "queues" | "types",
  names: readonly string[],
): Promise<number[]> {
  const rows = await sql<{ id: number }[]>`
    select id from queue.${sql(table)} where name = any (${[...names]})`;
  return rows.map(({ id }) => id);
}
