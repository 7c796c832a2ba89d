import { array, refused } from "../core/check-options.ts";
import type { Job } from "../core/define-job.ts";
import { InvalidOptionError } from "../core/errors.ts";
import type { HandlerContext, Middleware } from "../core/handler.ts";
import type { BatchImplementation, Implementation } from "../core/implement.ts";

/** What a worker does with jobs of one type. */
export interface Route {
  readonly job: Job;
  /** The handler with the middleware around it; of no use for batch handlers. */
  readonly handle: (context: HandlerContext) => unknown;
  readonly batch: BatchImplementation | undefined;
  /** How many jobs one call takes. */
  readonly batchSize: number;
}

/** The handlers by type. Throws InvalidOptionError when there are none, or two for one type. */
export function buildRoutes(
  handlers: readonly Implementation[],
  middleware: readonly Middleware[],
): Map<string, Route> {
  const routes = new Map<string, Route>();
  for (const [index, handler] of array("handlers", handlers ?? []).entries()) {
    if (typeof handler?.job?.type !== "string" || typeof handler.handle !== "function") {
      throw refused(`handlers[${index}]`, "must be made by implement or implementBatch", handler);
    }
    const { type } = handler.job;
    if (routes.has(type)) {
      throw new InvalidOptionError("handlers", `there are two for jobs of type "${type}"`);
    }
    routes.set(type, toRoute(handler, middleware));
  }
  if (routes.size === 0) {
    throw new InvalidOptionError("handlers", "there must be at least one", {
      hint: "Pass what implement(job, handler) returns.",
    });
  }
  return routes;
}

function toRoute(handler: Implementation, middleware: readonly Middleware[]): Route {
  const { job } = handler;
  return handler.kind === "batch"
    ? { job, handle: () => undefined, batch: handler, batchSize: handler.maxSize }
    : { job, handle: compose(handler.handle, middleware), batch: undefined, batchSize: 1 };
}

/** The first middleware is the outermost. */
function compose(
  handle: (context: HandlerContext) => unknown,
  middleware: readonly Middleware[],
): (context: HandlerContext) => unknown {
  return middleware.reduceRight<(context: HandlerContext) => unknown>(
    (next, wrap) => (context) => wrap(context, async () => next(context)),
    handle,
  );
}
