import { type ClaimedColumns, type ClaimedRow, toRows } from "../../src/db/claimed-jobs.ts";
import type { TestSql } from "../support/connect.ts";
import { only } from "./rig.ts";

export type AdvanceJob = ClaimedRow;

export interface Answer {
  readonly lost: string[] | null;
  readonly refused: [lease: string, id: string][];
  readonly busy_leases: string[] | null;
  readonly busy: [lease: string, id: string][] | null;
  readonly has_children_left: boolean;
  readonly statuses: Record<string, string>;
  readonly retry_in_ms: Record<string, number>;
  readonly now: number;
  readonly expires_at: number | null;
  readonly jobs: AdvanceJob[];
  readonly is_cut: boolean;
  readonly mark: unknown;
  readonly is_alone: boolean;
  readonly next_due_in_ms: number | null;
}

/** A call of queue.advance; what is left out has its default. */
export interface Request {
  /** Leases whose jobs all completed, and how long each took, in the order of the lease. */
  readonly whole?: readonly { lease: string; ms: readonly number[] }[];
  /** Parallel to all `ms` of `whole`. */
  readonly wholeResults?: unknown;
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
  const { whole, done, rest, queues, except, types } = request;
  const json = (value: unknown): string | null =>
    value === undefined || value === null ? null : JSON.stringify(value);
  type Raw = Omit<Answer, "jobs"> & { readonly jobs: ClaimedColumns | null };
  const [row] = await sql<{ answer: Raw }[]>`
    select queue.advance(
      p_worker => ${worker},
      p_whole_leases => ${whole ? whole.map(({ lease }) => lease) : null},
      p_whole_sizes => ${whole ? whole.map(({ ms }) => ms.length) : null},
      p_whole_elapsed_ms => ${whole ? whole.flatMap(({ ms }) => ms) : null},
      p_whole_results => ${json(request.wholeResults)}::text::json,
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
  const { answer } = only(row);
  return { ...answer, jobs: toRows(answer.jobs) };
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
