import { array, optionalText, refused, requiredText, wholeNumber } from "../core/check-options.ts";
import { type Clock, systemClock } from "../core/clock.ts";
import { InvalidOptionError, InvalidPayloadError } from "../core/errors.ts";
import type { Middleware } from "../core/handler.ts";
import type { Implementation } from "../core/implement.ts";
import { encodePayload } from "../core/json.ts";
import { consoleLogger, type Logger, shielded } from "../core/logger.ts";
import { toSql } from "../db/detect.ts";
import type { Sql } from "../db/sql.ts";
import type { WorkerEvent } from "./events.ts";
import type { LaneSettings } from "./lane.ts";
import { type Lifeline, openLifeline } from "./lifeline.ts";
import { buildRoutes, type Route } from "./routes.ts";

export interface WorkerOptions {
  /**
   * `connect(url)` of this library, a postgres.js client, or a node-postgres pool. Who made it closes it. A client or pool needs two
   * connections or more, of which handlers that use it themselves should leave one: by it jobs are claimed and their ends written. Leases
   * are kept on a connection of the worker's own, with the same settings, so jobs that run are safe however busy the others are. A
   * postgres.js client does not recover by itself from a network which swallows everything; the others do.
   */
  readonly sql: unknown;
  /** What `implement` and `implementBatch` make. Only these types are claimed. */
  readonly handlers: readonly Implementation[];
  /**
   * How many handlers run at a time, for each queue: `{ mail: 20, "*": 5 }`; `*` stands for all other queues with work for the
   * handlers. Not together with `concurrency`.
   */
  readonly queues?: Readonly<Record<string, number>>;
  /** Only jobs of this tenant. @default all */
  readonly tenantId?: string;
  /**
   * The most jobs of each tenant that this worker claims in its life; jobs without a tenant count as those of one. For runs that come to
   * an end by themselves, with `drain`. @default no limit
   */
  readonly maxJobsPerTenant?: number;
  /** Asked before each claim: whether a job of this type should still be begun. For runs whose time is limited. @default all */
  readonly fits?: (type: string) => boolean;
  /** How this worker is called in the database; no two that run at the same time may share a name. @default a new UUID */
  readonly name?: string;
  /** How many handlers run at a time, over all queues. @default 10 */
  readonly concurrency?: number;
  /**
   * The most jobs a queue's share of the worker holds beyond those that run. The worker takes fewer when handlers are slow: a job
   * shall not wait here for longer than half a second, or a tenth of the lease. 0 claims no more jobs than there are slots; batch
   * handlers beside others then get small batches. @default 2000
   */
  readonly prefetch?: number;
  /** How long a claim holds without a sign of life; it is extended three times as often. @default 30_000 */
  readonly leaseMs?: number;
  /** The longest sleep between two looks for work. @default 1_000 */
  readonly pollIntervalMs?: number;
  /** How long finished jobs may wait for company before they are written. @default 5 */
  readonly settleDelayMs?: number;
  /** How long running handlers may go on once the worker stops; then their signals abort. @default 25_000 */
  readonly shutdownTimeoutMs?: number;
  /** How long handlers have to react to that; then their jobs are given back, or fail where `maxRetries` is 0. @default 1_000 */
  readonly abortGraceMs?: number;
  /** Whether to wake up by LISTEN where the connection allows it. @default true */
  readonly listen?: boolean;
  /** Wraps every run of a handler; the first is the outermost. Not used for batch handlers. */
  readonly middleware?: readonly Middleware[];
  /** Told of everything that happens. Must be quick; what it throws is logged. */
  readonly onEvent?: (event: WorkerEvent) => void;
  /** @default the console, from level "warn" on */
  readonly logger?: Logger;
  /** What operators see of this worker, such as host name and process id. Kept as JSON. */
  readonly details?: Readonly<Record<string, string | number | boolean | null>>;
  readonly clock?: Clock;
  /** A number in [0, 1) for jitter. @default Math.random */
  readonly random?: () => number;
}

/** The options, checked and complete. */
export interface WorkerSettings {
  readonly sql: Sql;
  /** For what keeps leases and shows that this worker lives: handlers cannot use it up. */
  readonly lifeline: Lifeline;
  readonly routes: ReadonlyMap<string, Route>;
  readonly lanes: readonly LaneSettings[];
  readonly name: string;
  readonly tenantId: string | null;
  readonly perTenant: number | undefined;
  readonly fits: ((type: string) => boolean) | undefined;
  readonly leaseMs: number;
  readonly pollIntervalMs: number;
  readonly settleDelayMs: number;
  readonly shutdownTimeoutMs: number;
  readonly abortGraceMs: number;
  readonly listen: boolean;
  readonly onEvent: ((event: WorkerEvent) => void) | undefined;
  readonly logger: Logger;
  readonly details: Readonly<Record<string, string | number | boolean | null>>;
  readonly clock: Clock;
  readonly random: () => number;
}

/** The lane of all queues that have none of their own. */
export const EVERY_QUEUE = "*";

export const LONGEST_MS = 86_400_000;
/** However short the handlers: a job that lies in one worker could have been run by another. */
const LONGEST_HORIZON_MS = 500;

export function toSettings(options: WorkerOptions): WorkerSettings {
  const {
    leaseMs = 30_000,
    pollIntervalMs = 1_000,
    settleDelayMs = 5,
    shutdownTimeoutMs = 25_000,
    abortGraceMs = 1_000,
  } = options;
  const routes = buildRoutes(options.handlers, checkMiddleware(options.middleware ?? []));
  wholeNumber("leaseMs", leaseMs, 1_000, LONGEST_MS);
  const sql = toSql(options.sql);
  const logger = shielded(options.logger ?? consoleLogger({ level: "warn" }));
  return {
    sql,
    lifeline: openLifeline(sql, logger),
    routes,
    lanes: toLanes(options, routes, leaseMs),
    name: optionalText("name", options.name) ?? crypto.randomUUID(),
    tenantId: optionalText("tenantId", options.tenantId) ?? null,
    perTenant:
      options.maxJobsPerTenant === undefined
        ? undefined
        : wholeNumber("maxJobsPerTenant", options.maxJobsPerTenant, 1, 1_000_000),
    fits: options.fits,
    leaseMs,
    pollIntervalMs: wholeNumber("pollIntervalMs", pollIntervalMs, 1, LONGEST_MS),
    settleDelayMs: wholeNumber("settleDelayMs", settleDelayMs, 0, leaseMs / 3),
    shutdownTimeoutMs: wholeNumber("shutdownTimeoutMs", shutdownTimeoutMs, 0, LONGEST_MS),
    abortGraceMs: wholeNumber("abortGraceMs", abortGraceMs, 0, LONGEST_MS),
    listen: options.listen ?? true,
    onEvent: checkListener(options.onEvent),
    logger,
    details: checkDetails(options.details ?? {}),
    clock: options.clock ?? systemClock,
    random: options.random ? withinOne(options.random) : Math.random,
  };
}

function toLanes(
  { queues, concurrency, prefetch = 2_000 }: WorkerOptions,
  routes: ReadonlyMap<string, Route>,
  leaseMs: number,
): LaneSettings[] {
  if (queues && concurrency !== undefined) {
    throw refused("concurrency", 'must not come together with "queues"', concurrency);
  }
  const entries = Object.entries(queues ?? { [EVERY_QUEUE]: concurrency ?? 10 });
  if (entries.length === 0) throw refused("queues", "must name at least one queue", queues);
  const maxPrefetch = wholeNumber("prefetch", prefetch, 0, 10_000);
  const batchSize = Math.min(...[...routes.values()].map((route) => route.batchSize));
  return entries.map(([name, slots]) => ({
    name: requiredText("queues", name),
    concurrency: wholeNumber(queues ? `queues.${name}` : "concurrency", slots, 1, 10_000),
    maxPrefetch,
    batchSize,
    horizonMs: Math.min(leaseMs / 10, LONGEST_HORIZON_MS),
  }));
}

function checkMiddleware(middleware: readonly Middleware[]): readonly Middleware[] {
  for (const [at, wrap] of array("middleware", middleware).entries()) {
    if (typeof wrap !== "function") throw refused(`middleware[${at}]`, "must be a function", wrap);
  }
  return middleware;
}

function checkListener(onEvent: WorkerOptions["onEvent"]): WorkerOptions["onEvent"] {
  if (onEvent === undefined || onEvent === null || typeof onEvent === "function") return onEvent;
  throw refused("onEvent", "must be a function", onEvent);
}

/** They are sent with each heartbeat, so what can't be sent must not be found out by the first one. */
function checkDetails(details: WorkerSettings["details"]): WorkerSettings["details"] {
  if (typeof details !== "object" || Array.isArray(details)) {
    throw refused("details", "must be an object", details);
  }
  try {
    encodePayload(details);
  } catch (error) {
    if (!(error instanceof InvalidPayloadError)) throw error;
    const place = error.path === "" ? "details" : `details.${error.path}`;
    throw new InvalidOptionError(place, error.reason, { cause: error });
  }
  return details;
}

/** Waits are made of it: a number out of bounds would make some of them none at all, again and again. */
function withinOne(random: () => number): () => number {
  return () => {
    const number = random();
    return number >= 0 && number < 1 ? number : Math.random();
  };
}
