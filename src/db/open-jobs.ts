import { callJson } from "./call.ts";
import type { Queryable } from "./sql.ts";
import type { LaneScope } from "./worker-functions.ts";

/** Whether jobs have not ended, by where they stand. */
export interface OpenJobs {
  readonly pending: boolean;
  readonly scheduled: boolean;
  readonly blocked: boolean;
  readonly processing: boolean;
  readonly next_due_in_ms: number | null;
}

export async function openJobs(
  db: Queryable,
  scope: LaneScope,
  signal?: AbortSignal,
): Promise<OpenJobs> {
  return (await callJson(
    db,
    `select queue.open_jobs(p_queue_ids => $1::text::integer[], p_except_queue_ids => $2::text::integer[],
       p_type_ids => $3::text::integer[], p_tenant_id => $4::text::integer)::text`,
    [scope.queueIds, scope.exceptQueueIds, scope.typeIds, scope.tenantId],
    { signal },
  )) as OpenJobs;
}
