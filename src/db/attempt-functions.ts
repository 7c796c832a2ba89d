import { parseExact } from "../core/exact-json.ts";
import type { ParentResult } from "../core/handler.ts";
import { callJson, callText } from "./call.ts";
import { inexactResult } from "./claimed-jobs.ts";
import type { Queryable } from "./sql.ts";

/** How an attempt ended, in the words of the database. */
export interface SettlementDetail {
  readonly elapsed_ms?: number;
  readonly error?: unknown;
  readonly retryable?: boolean;
  readonly delay_ms?: number;
  readonly reason?: string;
  readonly result?: unknown;
  readonly note?: unknown;
}

export type SettledOutcome =
  | "completed"
  | "failed"
  | "snoozed"
  | "released"
  | "discarded"
  | "cancelled";

/** Ends one attempt, also within a caller's transaction. The job's new status; null when the lease was lost. */
export async function settleOne(
  db: Queryable,
  settlement: {
    lease: string;
    id: string;
    outcome: SettledOutcome;
    detail: SettlementDetail | null;
    /** JSON text. */
    result: string | null;
  },
  signal?: AbortSignal,
): Promise<string | null> {
  const { lease, id, outcome, detail, result } = settlement;
  return (await callJson(
    db,
    `select to_json(queue.settle_one(p_lease_id => $1::text::bigint, p_job_id => $2::text::bigint,
       p_outcome => $3::text, p_detail => $4::text::jsonb, p_result => $5::text::jsonb))::text`,
    [lease, id, outcome, detail && JSON.stringify(detail), result],
    { signal },
  )) as string | null;
}

/** Passes a job on to somebody who reports its end by `answerCall`; false when the lease was lost. */
export async function handOver(
  db: Queryable,
  claim: {
    worker: number;
    lease: string;
    id: string;
    withinMs: number;
    /** JSON text. */
    note: string | null;
  },
  signal?: AbortSignal,
): Promise<boolean> {
  const answer = await callJson(
    db,
    `select to_json(queue.hand_over(p_worker => $1::text::integer, p_lease_id => $2::text::bigint,
       p_job_id => $3::text::bigint, p_ms => $4::text::double precision, p_note => $5::text::jsonb))::text`,
    [String(claim.worker), claim.lease, claim.id, String(claim.withinMs), claim.note],
    { signal },
  );
  return answer === true;
}

/** What somebody reports of a job that was passed on to him. */
export type CallReport = "progress" | "extend" | "completed" | "failed";

/** Writes a report of a job by the lease that it was passed on under; false when the job is no longer that attempt's. */
export async function answerCall(
  db: Queryable,
  claim: { readonly jobId: string; readonly leaseId: string },
  report: CallReport,
  detail: Readonly<Record<string, unknown>>,
  signal?: AbortSignal,
): Promise<boolean> {
  const answer = await callJson(
    db,
    `select to_json(queue.answer_call(p_job_id => $1::text::bigint, p_lease_id => $2::text::bigint,
       p_report => $3::text, p_detail => $4::text::jsonb))::text`,
    [claim.jobId, claim.leaseId, report, JSON.stringify(detail)],
    { signal },
  );
  return answer === true;
}

export async function parentResults(db: Queryable, jobId: string): Promise<ParentResult[]> {
  const text = await callText(
    db,
    `select coalesce(json_agg(json_build_object('id', parent.id::text, 'type', parent.type,
       'status', parent.status, 'result', parent.result)), '[]')::text
     from queue.parent_results(p_job_id => $1::text::bigint) as parent`,
    [jobId],
  );
  return parseExact(text ?? "[]", inexactResult) as ParentResult[];
}

/** Writes how far a job is; false when the lease was lost. */
export async function reportProgress(
  db: Queryable,
  report: {
    id: string;
    lease: string;
    percent: number;
    message: string | null;
    data: string | null;
  },
  signal?: AbortSignal,
): Promise<boolean> {
  const answer = await callJson(
    db,
    `select to_json(public.report_progress(p_job_id => $1::text::bigint, p_percent => $2::text::numeric,
       p_message => $3::text, p_data => $4::text::jsonb, p_lease_id => $5::text::bigint))::text`,
    [report.id, String(report.percent), report.message, report.data, report.lease],
    { signal },
  );
  return answer === true;
}
