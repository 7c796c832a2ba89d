import { wholeNumber } from "../core/check-options.ts";
import { DatabaseUnreachableError } from "../core/database-errors.ts";
import { WorkerStateError } from "../core/errors.ts";
import { deadline, pause, untilAborted } from "../core/signals.ts";
import { checkSchema } from "../db/schema-version.ts";
import { type RegisteredWorker, registerWorker } from "../db/sign-in.ts";
import { unregisterWorker } from "../db/worker-functions.ts";
import { Engine } from "./engine.ts";
import { namesOf } from "./make-lanes.ts";
import { LONGEST_MS, toSettings, type WorkerOptions, type WorkerSettings } from "./options.ts";

export type { WorkerOptions } from "./options.ts";

/**
 * new -> starting -> running -> stopping -> stopped. `stopping`: claims no more, waits for handlers. A stopped worker stays so.
 */
export type WorkerState = "new" | "starting" | "running" | "stopping" | "stopped";

export interface RunOptions {
  /** Stops the worker in good order when it aborts. */
  readonly signal?: AbortSignal;
}

export interface DrainOptions extends RunOptions {
  /**
   * `idle`: no job is left that could run now. `empty`: nor one that is scheduled, or runs in another worker. Only jobs of this
   * worker's types count, and none in a paused queue. @default "idle"
   */
  readonly until?: "idle" | "empty";
  /** With `empty`: jobs that fall due later than this don't count. @default Infinity */
  readonly horizonMs?: number;
}

export interface StopOptions {
  /** How long handlers may go on; a second call with less shortens the first's. @default the worker's shutdownTimeoutMs */
  readonly timeoutMs?: number;
}

export interface StopReport {
  /** Jobs that were given back. */
  readonly released: number;
}

export interface Worker {
  readonly state: WorkerState;
  /** Handlers that run now. */
  readonly running: number;
  /**
   * Signs in and begins to work. Throws DatabaseUnreachableError, DatabaseCredentialsError or SchemaVersionError; later outages are
   * waited out.
   */
  start(): Promise<void>;
  /**
   * Claims no more, waits for running handlers, aborts their signals when the time is over, and gives back what did not finish
   * without using up its attempt; a job that may run only once (`maxRetries` 0) and has begun fails instead. Twice is fine.
   */
  stop(options?: StopOptions): Promise<StopReport>;
  /** Starts, works until the signal aborts, and stops. Rejects if the worker had to stop by itself. */
  run(options?: RunOptions): Promise<void>;
  /** Starts, works until there is nothing left to do, and stops. */
  drain(options?: DrainOptions): Promise<void>;
}

/** Makes a worker for these handlers. It does nothing before it is started. Throws InvalidOptionError. */
export function createWorker(options: WorkerOptions): Worker {
  return new LocalWorker(toSettings(options));
}

/** Between two looks of a drain that waits for what others hold up. */
const DRAIN_WAIT_MS = 50;
/** How long the sign-out may take: it is only a courtesy. */
const SIGN_OUT_MS = 2_000;
/** How long the database may take to let a worker in. */
const START_MS = 30_000;

function stopped(): WorkerStateError {
  return new WorkerStateError("The worker was stopped");
}

function noAnswer(): DatabaseUnreachableError {
  return new DatabaseUnreachableError("its address", `no answer within ${START_MS / 1_000} s`);
}

class LocalWorker implements Worker {
  readonly #settings: WorkerSettings;
  readonly #stopped = new AbortController();
  readonly #hurry = new AbortController();
  #state: WorkerState = "new";
  #engine: Engine | undefined;
  #starting: Promise<void> | undefined;
  #stopping: Promise<StopReport> | undefined;
  /** Why the worker stopped by itself. */
  #death: { readonly error: unknown } | undefined;

  constructor(settings: WorkerSettings) {
    this.#settings = settings;
  }

  get state(): WorkerState {
    return this.#state;
  }

  get running(): number {
    return this.#engine?.running ?? 0;
  }

  async start(): Promise<void> {
    if (this.#state !== "new") {
      throw new WorkerStateError(`A worker that is ${this.#state} cannot be started`, {
        hint: "Make a new worker with createWorker().",
      });
    }
    this.#state = "starting";
    this.#starting = this.#start();
    await this.#starting;
  }

  async stop({ timeoutMs }: StopOptions = {}): Promise<StopReport> {
    const { clock, shutdownTimeoutMs } = this.#settings;
    const patience = wholeNumber("timeoutMs", timeoutMs ?? shutdownTimeoutMs, 0, LONGEST_MS);
    // While it starts no job runs that would need the time.
    const most = this.#state === "starting" ? Math.min(patience, SIGN_OUT_MS) : patience;
    const cancel = clock.setTimer(() => this.#hurry.abort(stopped()), most);
    this.#stopping ??= this.#stop();
    return this.#stopping.finally(cancel);
  }

  async run({ signal }: RunOptions = {}): Promise<void> {
    if (!(await this.#startUnless(signal))) return;
    await Promise.race([
      untilAborted(this.#stopped.signal),
      ...(signal ? [untilAborted(signal)] : []),
    ]);
    await this.#end();
  }

  async drain({ until = "idle", horizonMs = Infinity, signal }: DrainOptions = {}): Promise<void> {
    if (!(await this.#startUnless(signal))) return;
    this.#engine?.refuseOffers();
    const onAbort = (): void => void this.stop();
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) onAbort();
    try {
      while (this.#state === "running") {
        await this.#engine?.whenIdle(this.#stopped.signal);
        if (until === "idle" || !(await this.#isSomethingOpen(horizonMs))) break;
        await pause(DRAIN_WAIT_MS, this.#stopped.signal, this.#settings.clock);
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
    await this.#end();
  }

  /** False when the signal aborts before the worker has started: nothing runs yet that should be waited for. */
  async #startUnless(signal: AbortSignal | undefined): Promise<boolean> {
    if (signal?.aborted) return false;
    const onAbort = (): void => this.#hurry.abort(stopped());
    signal?.addEventListener("abort", onAbort);
    try {
      await this.start();
      return true;
    } catch (error) {
      if (signal?.aborted && this.#hurry.signal.aborted && error === this.#hurry.signal.reason) {
        return false;
      }
      throw error;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async #start(): Promise<void> {
    const { sql, clock } = this.#settings;
    const patience = deadline(START_MS, noAnswer, this.#hurry.signal, clock);
    try {
      await checkSchema(sql, patience.signal);
      const signedIn = await this.#register(patience.signal);
      this.#engine = new Engine(
        this.#settings,
        signedIn,
        (signal) => this.#register(signal),
        (error) => this.#die(error),
      );
      this.#engine.start();
      this.#state = "running";
    } catch (error) {
      this.#finish();
      throw error;
    } finally {
      patience.release();
    }
  }

  /** One of its loops is dead: rather no worker than one that only seems to work. */
  #die(error: unknown): void {
    this.#death ??= { error };
    void this.stop();
  }

  async #end(): Promise<void> {
    await this.stop();
    if (this.#death) throw this.#death.error;
  }

  /** During an outage nobody knows; then there may be something. */
  async #isSomethingOpen(horizonMs: number): Promise<boolean> {
    const engine = this.#engine;
    if (!engine || this.#state !== "running") return false;
    try {
      return await engine.isSomethingOpen(horizonMs);
    } catch (error) {
      this.#settings.logger.debug("worker.drain_look_failed", { error });
      return true;
    }
  }

  #register(signal: AbortSignal): Promise<RegisteredWorker> {
    const { sql, name, details } = this.#settings;
    return registerWorker(sql, { name, details, ...namesOf(this.#settings) }, signal);
  }

  async #stop(): Promise<StopReport> {
    // A start that is under way may still end by itself, so that as a rule nothing stays behind in the database.
    if (this.#state === "starting") await this.#starting?.catch(() => undefined);
    const engine = this.#engine;
    if (engine && this.#state === "running") {
      this.#state = "stopping";
      const isClean = await engine.drain(this.#hurry.signal);
      if (isClean) await this.#signOut(engine.worker);
    }
    this.#finish();
    return { released: engine?.released ?? 0 };
  }

  async #signOut(worker: number): Promise<void> {
    const { sql, logger } = this.#settings;
    try {
      await unregisterWorker(sql, worker, AbortSignal.timeout(SIGN_OUT_MS));
    } catch (error) {
      logger.debug("worker.sign_out_failed", { error });
    }
  }

  #finish(): void {
    this.#state = "stopped";
    this.#stopped.abort();
  }
}
