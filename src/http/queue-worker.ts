import { wholeNumber } from "../core/check-options.ts";
import { type Clock, systemClock } from "../core/clock.ts";
import { jsonLogger, type Logger, shielded } from "../core/logger.ts";
import { toSql } from "../db/detect.ts";
import { overview, runPlan } from "../db/edge-functions.ts";
import { checkSchema } from "../db/schema-version.ts";
import type { Queryable } from "../db/sql.ts";
import { translated } from "./answer-error.ts";
import { Budget, type Usage } from "./budget.ts";
import { answerCallback } from "./callback.ts";
import { callbackToken } from "./callback-token.ts";
import { chooseHandlers, type HandlerChoice, routesOf } from "./choose-handlers.ts";
import type { Delivery, Target } from "./dispatch.ts";
import { healthResponse } from "./health.ts";
import { inTime } from "./in-time.ts";
import { Joiners } from "./joiners.ts";
import { problemResponse } from "./problem.ts";
import { type RoutingDefaults, SHIPPED_ROUTES, targetOf } from "./routes.ts";
import { type Prepared, run } from "./run.ts";
import type { RunReport } from "./run-report.ts";
import { callerOf, type ServiceKeys, unauthorized } from "./service-access.ts";
import { checkSigningSecret } from "./webhook-signature.ts";
import { readWorkerRequest, type WorkerRequest } from "./worker-request.ts";

export interface QueueWorkerOptions extends Partial<HandlerChoice>, Partial<RoutingDefaults> {
  /** What `connect(url)` makes: through the pooler in transaction mode, with two connections. Who made it closes it. */
  readonly sql: unknown;
  /** Who may call. */
  readonly keys: ServiceKeys;
  /** Where functions report on jobs, and what signs their tokens; the first signs, all are believed. @default functions can't report */
  readonly callback?: { readonly url: string; readonly secrets: readonly string[] };
  /** Reads what headers of routes name. @default nothing is known */
  readonly env?: (name: string) => string | undefined;
  /** How many jobs run at a time when the request does not say. @default 10 */
  readonly concurrency?: number;
  /** How long the platform lets an isolate live, from its start. @default 150_000, that of Supabase's free plan */
  readonly lifeMs?: number;
  /** The most processor time of one run: 2_000 on Supabase. @default no limit */
  readonly mostCpuMs?: number;
  /** 256 MiB on Supabase. @default no limit */
  readonly mostMemoryBytes?: number;
  /** What this isolate has used. @default nothing is known */
  readonly usage?: () => Usage;
  /** Keeps the isolate alive until the promise ends. @default it lives anyway */
  readonly waitUntil?: (work: Promise<unknown>) => void;
  /** Names this isolate. @default a new UUID */
  readonly name?: string;
  /** @default lines of JSON, from level "info" on */
  readonly logger?: Logger;
  readonly fetch?: typeof globalThis.fetch;
  readonly clock?: Clock;
}

/** A worker that is called over HTTP: each call is one bounded run. */
export interface QueueWorker {
  /** Answers `process`, `health`, `stats` and reports of functions. Never rejects. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** Gives back what is unfinished: for `beforeunload`. */
  readonly release: () => Promise<void>;
}

/** Runs at a time in one isolate: each takes processor time and connections from the others. */
const RUNS: readonly number[] = [1, 2, 3, 4];
const LONGEST_LIFE_MS = 86_400_000;
/** The most jobs of a run for one tenant, when it does not say how many. */
const JOBS_OF_ONE_TENANT = 10;

/** The most of an isolate's life that one call may take: else it would be given up and made again for ever, with no attempt used. */
const MOST_OF_LIFE = 0.75;

function limited(target: Target, lifeMs: number): Target {
  return { ...target, timeoutMs: Math.min(target.timeoutMs, Math.floor(lifeMs * MOST_OF_LIFE)) };
}

function busy(code: string, title: string): Response {
  return problemResponse({ status: 503, code, title, headers: { "retry-after": "1" } });
}

/** Makes the worker. It does nothing before it is called. Throws InvalidOptionError, and InvalidSigningSecretError. */
export function createQueueWorker(options: QueueWorkerOptions): QueueWorker {
  const worker = new HttpWorker(options);
  return { fetch: (request) => worker.answer(request), release: () => worker.release() };
}

type ProcessRequest = WorkerRequest & { readonly action: "process" };

/** Whether a run is asked to take whatever is there. */
function isForAll({ type, tenantId, maxJobs }: ProcessRequest): boolean {
  return type === undefined && tenantId === undefined && maxJobs === undefined;
}

class HttpWorker {
  readonly #options: QueueWorkerOptions;
  readonly #sql: ReturnType<typeof toSql>;
  /** The same, where each statement ends in time. */
  readonly #db: Queryable;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #bornAt: number;
  readonly #lifeMs: number;
  readonly #name: string;
  readonly #unload = new AbortController();
  /** Runs under way, by the number in their names. */
  readonly #runs = new Map<number, Promise<RunReport>>();
  /** Of the newest run of a ring: further rings join it. */
  #ringing: Joiners | undefined;
  #isSchemaKnown = false;

  constructor(options: QueueWorkerOptions) {
    this.#options = options;
    this.#sql = toSql(options.sql);
    this.#clock = options.clock ?? systemClock;
    this.#db = inTime(this.#sql, this.#clock);
    this.#logger = shielded(options.logger ?? jsonLogger({ level: "info" }));
    this.#bornAt = this.#clock.now();
    this.#lifeMs = wholeNumber("lifeMs", options.lifeMs ?? 150_000, 1_000, LONGEST_LIFE_MS);
    this.#name = options.name ?? crypto.randomUUID();
    wholeNumber("concurrency", options.concurrency ?? 10, 1, 1_000);
    for (const secret of options.signingSecrets ?? []) checkSigningSecret(secret);
  }

  async answer(request: Request): Promise<Response> {
    try {
      if (new URL(request.url).searchParams.get("action") === "report") {
        const { callback } = this.#options;
        return await answerCallback(request, this.#db, callback?.secrets ?? []);
      }
      const caller = await callerOf(request, this.#options.keys);
      if (!caller) return unauthorized();
      const wanted = await readWorkerRequest(request);
      await this.#checkSchema(request.signal);
      if (wanted.action === "process") return await this.#process(wanted);
      if (caller === "doorbell") return unauthorized();
      if (wanted.action === "stats") return Response.json(await overview(this.#db, request.signal));
      return await healthResponse(this.#db, (signal) => this.#prepare(undefined, signal));
    } catch (error) {
      return translated(error, this.#logger);
    }
  }

  async release(): Promise<void> {
    this.#unload.abort();
    await Promise.allSettled(this.#runs.values());
  }

  async #process(wanted: ProcessRequest): Promise<Response> {
    const isRing = wanted.isAsync && isForAll(wanted);
    if (isRing && this.#ringing?.join()) {
      return Response.json({ accepted: true, joined: true }, { status: 202 });
    }
    const budget = this.#budget();
    // Whoever can wait is told so: it is kept with the ring, and the next one may find a younger isolate.
    if (wanted.isAsync && budget.isOld) {
      return busy("WORKER_SPENT", "This isolate is about to end and begins nothing more");
    }
    const number = RUNS.find((one) => !this.#runs.has(one));
    if (number === undefined || this.#unload.signal.aborted) {
      return busy("WORKER_BUSY", "This worker has as many runs under way as it may");
    }
    const joiners = new Joiners();
    const running = this.#run(wanted, { number, budget, joiners }).finally(() => {
      this.#runs.delete(number);
      if (this.#ringing === joiners) this.#ringing = undefined;
    });
    this.#runs.set(number, running);
    if (isRing) this.#ringing = joiners;
    if (!wanted.isAsync) return Response.json(await running);
    const done = running.catch((error: unknown) => this.#logger.error("run.failed", { error }));
    this.#options.waitUntil?.(done);
    return Response.json({ accepted: true }, { status: 202 });
  }

  #budget(): Budget {
    const { mostCpuMs = Infinity, mostMemoryBytes = Infinity, usage } = this.#options;
    return new Budget({
      clock: this.#clock,
      bornAt: this.#bornAt,
      lifeMs: this.#lifeMs,
      mostCpuMs,
      mostMemoryBytes,
      usage: usage ?? (() => ({})),
    });
  }

  #run(
    wanted: ProcessRequest,
    { number, budget, joiners }: { number: number; budget: Budget; joiners: Joiners },
  ): Promise<RunReport> {
    const { concurrency = 10 } = this.#options;
    const { type, tenantId, batch } = wanted;
    const maxJobs = wanted.maxJobs ?? (tenantId === undefined ? undefined : JOBS_OF_ONE_TENANT);
    const order = {
      tenantId,
      concurrency: batch ?? concurrency,
      maxJobs,
      rings: isForAll(wanted),
    };
    return run(order, {
      sql: this.#sql,
      db: this.#db,
      prepare: (signal) => this.#prepare(type, signal),
      budget,
      clock: this.#clock,
      logger: this.#logger,
      name: `${this.#name}#${number}`,
      signal: this.#unload.signal,
      joiners,
    });
  }

  /** Once: a schema that fits stays so as long as an isolate lives. */
  async #checkSchema(signal: AbortSignal): Promise<void> {
    if (this.#isSchemaKnown) return;
    await checkSchema(this.#db, signal);
    this.#isSchemaKnown = true;
  }

  /** What can be worked on: the database's routes and types may change between two runs. */
  async #prepare(type: string | undefined, signal: AbortSignal): Promise<Prepared> {
    const { handlers = [], routes: fromFile = {}, sendsToNamesakes = true } = this.#options;
    const { env = () => undefined, fetch = globalThis.fetch } = this.#options;
    const plan = await runPlan(this.#db, signal);
    const { routes: rows, off } = routesOf(plan.routes, env);
    const routes = { ...SHIPPED_ROUTES, ...fromFile, ...rows };
    const defaults = this.#routing();
    const dispatch = {
      targetOf: (job: { readonly type: string; readonly tenantId: string | null }) =>
        limited(targetOf(job, routes, defaults), this.#lifeMs),
      callbackOf: (claim: { readonly jobId: string; readonly leaseId: string }) =>
        this.#callbackOf(claim),
      tools: { fetch, clock: this.#clock, epochMs: () => Date.now() },
    };
    const choice = { handlers, routes, sendsToNamesakes: sendsToNamesakes && this.#hasFunctions };
    const chosen = chooseHandlers(plan, choice, { off, dispatch });
    return {
      handlers: type === undefined ? chosen : chosen.filter(({ job }) => job.type === type),
      usualMs: plan.usual_ms,
    };
  }

  get #hasFunctions(): boolean {
    return this.#options.functionsUrl !== undefined;
  }

  #routing(): RoutingDefaults {
    const { functionsUrl = "", functionHeaders = {}, signingSecrets = [] } = this.#options;
    const { timeoutMs = 60_000, reportMs = 900_000 } = this.#options;
    return { functionsUrl, functionHeaders, signingSecrets, timeoutMs, reportMs };
  }

  async #callbackOf(claim: {
    readonly jobId: string;
    readonly leaseId: string;
  }): Promise<Delivery["callback"]> {
    const { callback } = this.#options;
    const [secret] = callback?.secrets ?? [];
    if (!callback || secret === undefined) return undefined;
    return { url: callback.url, token: await callbackToken(claim, secret) };
  }
}
