import { callJson, callText, textArray } from "./call.ts";
import type { QueueHealth } from "./operator-functions.ts";
import type { Queryable } from "./sql.ts";

/** A row of queue.routes. */
export interface RouteRow {
  readonly type: string;
  readonly tenants: readonly string[] | null;
  readonly function_name: string | null;
  readonly url: string | null;
  readonly method: "POST" | "PUT";
  /** A text, or the name of an environment variable. */
  readonly headers: Readonly<Record<string, string | { readonly env: string }>>;
  readonly timeout_ms: number | null;
  readonly report_ms: number | null;
  readonly is_enabled: boolean;
  readonly batch_size: number;
}

/** What a run of the HTTP worker begins with. */
export interface RunPlan {
  readonly routes: readonly RouteRow[];
  /** All types there are. */
  readonly types: readonly string[];
  /** Types that long-lived workers had handlers for within the last day. */
  readonly served: readonly string[];
  /** How long jobs take, by type: the 95th percentile of the newest. */
  readonly usual_ms: Readonly<Record<string, number>>;
}

export async function runPlan(db: Queryable, signal?: AbortSignal): Promise<RunPlan> {
  return (await callJson(db, `select queue.run_plan()::text`, [], { signal })) as RunPlan;
}

/** Posts to the Edge worker for what a run has left: `rung`, `coalesced`, `idle` and so on. */
export async function ringWorker(db: Queryable, signal?: AbortSignal): Promise<string | null> {
  return callText(
    db,
    `select queue.trigger_worker(p_action => 'process', p_type => null, p_batch => null,
       p_reason => 'remaining')`,
    [],
    { signal },
  );
}

/** Asks for a ring when the next job comes; false where nothing can ring. */
export async function armEdgeBell(db: Queryable, signal?: AbortSignal): Promise<boolean> {
  return (
    (await callJson(db, `select to_json(queue.arm_edge_bell())::text`, [], { signal })) === true
  );
}

/** Depth, rates and times, for machines. */
export async function overview(db: Queryable, signal?: AbortSignal): Promise<unknown> {
  return callJson(db, `select queue.overview()::text`, [], { signal });
}

/** Whether the system is well. */
export async function healthReport(db: Queryable, signal?: AbortSignal): Promise<QueueHealth> {
  return (await callJson(db, `select queue.health()::text`, [], { signal })) as QueueHealth;
}

/** What is there for a run to do. */
export interface WorkDue {
  /** Jobs that may run now. */
  readonly pending: boolean;
  /** Until the next job falls due; null when none is scheduled. */
  readonly next_due_in_ms: number | null;
}

export async function workDue(
  db: Queryable,
  { types, tenantId }: { types: readonly string[]; tenantId: string | null },
  signal?: AbortSignal,
): Promise<WorkDue> {
  return (await callJson(
    db,
    `select queue.work_due(p_types => $1::text::text[], p_tenant_id => $2::text)::text`,
    [textArray(types), tenantId],
    { signal },
  )) as WorkDue;
}
