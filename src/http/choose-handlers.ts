import type { Implementation } from "../core/implement.ts";
import type { RouteRow, RunPlan } from "../db/edge-functions.ts";
import { batchDispatchHandler } from "./batch-dispatch-handler.ts";
import { type DispatchParts, dispatchHandler } from "./dispatch-handler.ts";
import { hasNamesake, type Route, type Routes } from "./routes.ts";

/** What a run may do with jobs, before it is known which there are. */
export interface HandlerChoice {
  /** Handlers in this process go before routes. */
  readonly handlers: readonly Implementation[];
  /** Those of the database go before those of a file, and these before the shipped ones. */
  readonly routes: Routes;
  /** Whether a type that nobody else serves is sent to the function that is named like it. */
  readonly sendsToNamesakes: boolean;
}

/** The routes of the database as the file has them: by type, those that name tenants first; and the types that are left to others. */
export function routesOf(
  rows: readonly RouteRow[],
  env: (name: string) => string | undefined,
): { routes: Routes; off: ReadonlySet<string> } {
  const routes: Record<string, Route[]> = Object.create(null);
  const enabled = rows.filter((row) => row.is_enabled);
  for (const row of enabled) {
    routes[row.type] ??= [];
    routes[row.type]?.push(toRoute(row, env));
  }
  const off = rows.filter((row) => !row.is_enabled && !routes[row.type]).map((row) => row.type);
  return { routes, off: new Set(off) };
}

function toRoute(row: RouteRow, env: (name: string) => string | undefined): Route {
  const headers = Object.entries(row.headers).flatMap(([name, value]) => {
    const text = typeof value === "string" ? value : env(value.env);
    return text === undefined ? [] : [[name, text] as const];
  });
  return {
    method: row.method,
    headers: Object.fromEntries(headers),
    ...(row.function_name !== null && { functionName: row.function_name }),
    ...(row.url !== null && { url: row.url }),
    ...(row.timeout_ms !== null && { timeoutMs: row.timeout_ms }),
    ...(row.report_ms !== null && { reportMs: row.report_ms }),
    batchSize: row.batch_size,
    ...(row.tenants !== null && { tenants: row.tenants }),
  };
}

/**
 * A handler for each type that a run serves: its own; then every type with a route; then each type that no long-lived worker serves and
 * after which a function can be named.
 */
export function chooseHandlers(
  plan: RunPlan,
  { handlers, routes, sendsToNamesakes }: HandlerChoice,
  { off, dispatch }: { off: ReadonlySet<string>; dispatch: DispatchParts },
): Implementation[] {
  const own = new Set(handlers.map((handler) => handler.job.type));
  const served = new Set(plan.served);
  const sent = plan.types.filter(
    (type) =>
      !own.has(type) &&
      !off.has(type) &&
      (Object.hasOwn(routes, type) || (sendsToNamesakes && !served.has(type) && hasNamesake(type))),
  );
  return [
    ...handlers,
    ...sent.map((type) =>
      handlerOf(type, Object.hasOwn(routes, type) ? (routes[type] ?? []) : [], dispatch),
    ),
  ];
}

/** Jobs go one by one unless a route of their type takes more. */
function handlerOf(
  type: string,
  routes: readonly Route[],
  dispatch: DispatchParts,
): Implementation {
  const maxSize = Math.max(1, ...routes.map(({ batchSize = 1 }) => batchSize));
  return maxSize > 1
    ? batchDispatchHandler(type, maxSize, dispatch)
    : dispatchHandler(type, dispatch);
}
