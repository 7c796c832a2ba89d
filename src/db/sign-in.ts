import { callJson, textArray } from "./call.ts";
import type { Queryable } from "./sql.ts";

/** The short ids of a worker's names. Null for a name that an open transaction is just making: to be asked for again. */
export interface WorkerIds {
  /** In the order of the names given. */
  readonly queueIds: readonly (number | null)[];
  readonly typeIds: readonly (number | null)[];
  /** Of the one tenant that it serves; null: all, or not known yet. */
  readonly tenantId: number | null;
}

export interface RegisteredWorker extends WorkerIds {
  readonly worker: number;
}

/** What a worker serves. */
export interface WorkerNames {
  /** Null: all queues. `*` among them stands for all others. */
  readonly queues: readonly string[] | null;
  readonly types: readonly string[];
  /** The one tenant that it serves; null: all. */
  readonly tenantId: string | null;
}

interface RawIds {
  readonly queue_ids: (number | null)[];
  readonly type_ids: (number | null)[];
  readonly tenant_id: number | null;
}

function toIds(raw: RawIds): WorkerIds {
  return { queueIds: raw.queue_ids, typeIds: raw.type_ids, tenantId: raw.tenant_id };
}

/** Signs a worker in under a name that is new at each start, and gives short ids to the names it uses. */
export async function registerWorker(
  db: Queryable,
  worker: WorkerNames & { readonly name: string; readonly details: unknown },
  signal?: AbortSignal,
): Promise<RegisteredWorker> {
  const answer = (await callJson(
    db,
    `select queue.register_worker(p_name => $1::text, p_details => $2::text::jsonb,
       p_queues => $3::text::text[], p_types => $4::text::text[], p_tenant_id => $5::text)::text`,
    [
      worker.name,
      JSON.stringify(worker.details),
      textArray(worker.queues),
      textArray(worker.types),
      worker.tenantId,
    ],
    { signal },
  )) as RawIds & { worker: number };
  return { worker: answer.worker, ...toIds(answer) };
}

/** Asks again for ids, because not all could be told when the worker signed in. */
export async function workerNames(
  db: Queryable,
  { queues, types, tenantId }: WorkerNames,
  signal?: AbortSignal,
): Promise<WorkerIds> {
  return toIds(
    (await callJson(
      db,
      `select queue.worker_names(p_queues => $1::text::text[], p_types => $2::text::text[],
         p_tenant_id => $3::text)::text`,
      [textArray(queues), textArray(types), tenantId],
      { signal },
    )) as RawIds,
  );
}
