import { numberArray } from "../db/call.ts";
import type { WorkerIds, WorkerNames } from "../db/sign-in.ts";
import type { LaneScope } from "../db/worker-functions.ts";
import { Lane, type LaneChoice } from "./lane.ts";
import { EVERY_QUEUE, type WorkerSettings } from "./options.ts";

/** What a worker serves, by its lanes and handlers. */
export function namesOf({ lanes, routes, tenantId }: WorkerSettings): WorkerNames {
  const names = lanes.map((lane) => lane.name);
  // Named queues first: their ids come in this order.
  const named = names.filter((name) => name !== EVERY_QUEUE);
  const rest = names.length > named.length ? [EVERY_QUEUE] : [];
  return {
    queues: named.length === 0 ? null : [...named, ...rest],
    types: [...routes.keys()],
    tenantId,
  };
}

/** Whether the database has an id for every name of a worker. */
export function areComplete({ tenantId }: WorkerSettings, ids: WorkerIds): boolean {
  if (tenantId !== null && ids.tenantId === null) return false;
  return !ids.queueIds.includes(null) && !ids.typeIds.includes(null);
}

/** The lanes of a worker, with the ids that the database gave to its queues and types. */
export function makeLanes(settings: WorkerSettings, ids: WorkerIds): Lane[] {
  return settings.lanes.map(
    (lane) => new Lane(lane, choiceOf(lane.name, settings, ids), settings.clock),
  );
}

/** What a lane claims. A name without an id is left out: nothing of it can be claimed yet. */
export function choiceOf(
  name: string,
  { lanes, routes, fits, perTenant, tenantId }: WorkerSettings,
  ids: WorkerIds,
): LaneChoice {
  const named = lanes.filter((lane) => lane.name !== EVERY_QUEUE);
  const isRest = name === EVERY_QUEUE;
  const queueId = ids.queueIds[named.findIndex((lane) => lane.name === name)] ?? -1;
  const hasTenant = tenantId === null || ids.tenantId !== null;
  const types = [...routes.keys()].flatMap((type, at) => {
    const id = ids.typeIds[at];
    return hasTenant && typeof id === "number" ? [{ type, id }] : [];
  });
  const idsOf = (some: typeof types): string => numberArray(some.map(({ id }) => id)) ?? "{}";
  const scope: LaneScope = {
    queueIds: isRest ? null : numberArray([queueId]),
    exceptQueueIds:
      isRest && named.length > 0 ? numberArray(ids.queueIds.filter((id) => id !== null)) : null,
    typeIds: idsOf(types),
    tenantId: ids.tenantId === null ? null : String(ids.tenantId),
    perTenant: perTenant === undefined ? null : String(perTenant),
  };
  return { scope, fitting: fits && (() => idsOf(types.filter(({ type }) => fits(type)))) };
}

/** The queues of all lanes together. */
export function scopeOfAll(lanes: readonly Lane[]): Pick<LaneScope, "queueIds" | "typeIds"> {
  const [first] = lanes;
  const queues = lanes.map((lane) => lane.scope.queueIds);
  return {
    queueIds: queues.includes(null)
      ? null
      : `{${queues.map((ids) => ids?.slice(1, -1)).join(",")}}`,
    typeIds: first?.scope.typeIds ?? "{}",
  };
}
