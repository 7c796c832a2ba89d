import { numberArray } from "../db/call.ts";
import type { LaneScope, RegisteredWorker } from "../db/worker-functions.ts";
import { Lane } from "./lane.ts";
import { EVERY_QUEUE, type WorkerSettings } from "./options.ts";

/** The lanes of a worker, with the ids that the database gave to its queues and types. */
export function makeLanes(
  { lanes, clock, routes, fits, perTenant }: WorkerSettings,
  signedIn: RegisteredWorker,
): Lane[] {
  const named = lanes.filter((lane) => lane.name !== EVERY_QUEUE);
  const idOf = (name: string): number =>
    signedIn.queueIds[named.findIndex((lane) => lane.name === name)] ?? -1;
  const typeIds = numberArray(signedIn.typeIds) ?? "{}";
  const types = [...routes.keys()];
  const fitting =
    fits && (() => numberArray(signedIn.typeIds.filter((_, at) => fits(types[at] ?? ""))) ?? "{}");
  return lanes.map((lane) => {
    const isRest = lane.name === EVERY_QUEUE;
    const scope: LaneScope = {
      queueIds: isRest ? null : numberArray([idOf(lane.name)]),
      exceptQueueIds: isRest && named.length > 0 ? numberArray(signedIn.queueIds) : null,
      typeIds,
      tenantId: signedIn.tenantId === null ? null : String(signedIn.tenantId),
      perTenant: perTenant === undefined ? null : String(perTenant),
    };
    return new Lane(lane, { scope, fitting }, clock);
  });
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
