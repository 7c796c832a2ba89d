import { pause } from "../core/signals.ts";
import { numberArray } from "../db/call.ts";
import {
  armBells,
  forgetLeases,
  heartbeatWorker,
  type LaneScope,
  openJobs,
  type RegisteredWorker,
} from "../db/worker-functions.ts";
import { Deadlines } from "./deadlines.ts";
import { Doorbell } from "./doorbell.ts";
import { Events } from "./events.ts";
import { Executor } from "./executor.ts";
import { Intake } from "./intake.ts";
import { Lane } from "./lane.ts";
import { type LaneLoopParts, type Phase, runLane } from "./lane-loop.ts";
import { LeaseBook } from "./lease-book.ts";
import { Link } from "./link.ts";
import { EVERY_QUEUE, type WorkerSettings } from "./options.ts";
import { Settlements } from "./settlements.ts";
import { keepAlive, keepHouse, keepLeases, type UpkeepParts } from "./upkeep.ts";
import { Verdicts } from "./verdicts.ts";

/** How long what is finished may take to be written after the handlers have ended. */
const FLUSH_MS = 5_000;

/** A started worker: its parts, and the loops that keep them going. */
export class Engine {
  readonly #settings: WorkerSettings;
  readonly #book = new LeaseBook();
  readonly #settlements: Settlements;
  readonly #deadlines: Deadlines;
  readonly #verdicts: Verdicts;
  readonly #executor: Executor;
  readonly #link: Link;
  readonly #doorbell: Doorbell;
  readonly #lanes: readonly Lane[];
  readonly #loops: LaneLoopParts;
  readonly #upkeep: UpkeepParts;
  readonly #phase: Phase;
  readonly #ended = new AbortController();
  readonly #idleWaiters = new Set<() => void>();
  readonly #running: Promise<unknown>[] = [];
  #signedIn: RegisteredWorker;

  constructor(
    settings: WorkerSettings,
    signedIn: RegisteredWorker,
    register: () => Promise<RegisteredWorker>,
  ) {
    const { sql, clock, logger, routes, random, leaseMs } = settings;
    const book = this.#book;
    const worker = (): number => this.#signedIn.worker;
    const events = new Events(logger, settings.onEvent);
    this.#settings = settings;
    this.#signedIn = signedIn;
    this.#lanes = makeLanes(settings, signedIn);
    this.#settlements = new Settlements(clock);
    this.#deadlines = new Deadlines(clock);
    this.#phase = { isStopping: false, workCount: 0, onIdle: () => this.#tellIfIdle() };
    this.#link = new Link({
      clock,
      events,
      random,
      callTimeoutMs: Math.max(leaseMs, 5_000),
      greet: async (isAlone, signal) => {
        if (isAlone) await forgetLeases(sql, worker(), book.ids, signal);
        else await heartbeatWorker(sql, worker(), this.#upkeep.describe(), signal);
      },
      onBack: () => this.#stir(),
    });
    this.#verdicts = new Verdicts({
      book,
      settlements: this.#settlements,
      deadlines: this.#deadlines,
      events,
      clock,
      logger,
    });
    this.#executor = new Executor({
      verdicts: this.#verdicts,
      deadlines: this.#deadlines,
      events,
      tools: { sql, clock, logger, verdicts: this.#verdicts },
      onFree: (lane) => this.#onFree(lane),
    });
    this.#doorbell = new Doorbell({
      sql,
      clock,
      logger,
      worker,
      random,
      arm: () => this.#link.call((signal) => armBells(sql, worker(), unionOf(this.#lanes), signal)),
      onArmed: () => this.#stir(),
      onRing: () => this.#stir(),
      onCancel: (lease, id) => {
        const attempt = book.find(lease, id);
        if (attempt) this.#verdicts.cancel(attempt);
      },
    });
    this.#loops = {
      settings,
      worker,
      link: this.#link,
      doorbell: this.#doorbell,
      settlements: this.#settlements,
      verdicts: this.#verdicts,
      executor: this.#executor,
      intake: new Intake({ book, events, logger, routes }),
      phase: this.#phase,
    };
    this.#upkeep = {
      settings,
      worker,
      link: this.#link,
      book,
      verdicts: this.#verdicts,
      describe: () => ({ ...settings.details, running: this.running }),
      register: async () => {
        this.#signedIn = await register();
      },
    };
  }

  get worker(): number {
    return this.#signedIn.worker;
  }

  get running(): number {
    return this.#executor.running.size;
  }

  /** Jobs given back since the start. */
  get released(): number {
    return this.#verdicts.released;
  }

  start(): void {
    const { signal } = this.#ended;
    for (const lane of this.#lanes) this.#supervise(runLane(lane, this.#loops, signal));
    this.#supervise(keepLeases(this.#upkeep, signal));
    this.#supervise(keepAlive(this.#upkeep, signal));
    this.#supervise(keepHouse(this.#upkeep, signal));
    if (this.#settings.listen && this.#settings.sql.listen) {
      this.#supervise(this.#doorbell.run(signal));
    }
  }

  /** Resolves when every lane found nothing since the last piece of work, or when the signal aborts. */
  whenIdle(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#idleWaiters.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#idleWaiters.add(done);
      signal.addEventListener("abort", done, { once: true });
      if (signal.aborted) done();
      else this.#tellIfIdle();
    });
  }

  /**
   * Whether a job of these types and queues is under way, wherever it is, or falls due within the horizon. Blocked jobs don't count by
   * themselves: what they wait for does, if it is ours.
   */
  async isSomethingOpen(horizonMs: number): Promise<boolean> {
    for (const { scope } of this.#lanes) {
      const open = await this.#link.call((signal) => openJobs(this.#settings.sql, scope, signal));
      if (open.pending || open.processing) return true;
      if (open.next_due_in_ms !== null && open.next_due_in_ms <= horizonMs) return true;
    }
    return false;
  }

  /** Brings everything to an end: waits for handlers until `hurry` aborts, then aborts them and gives back what is left. */
  async drain(hurry: AbortSignal): Promise<void> {
    const { clock, abortGraceMs, logger } = this.#settings;
    this.#phase.isStopping = true;
    for (const lane of this.#lanes) {
      for (const attempt of lane.takeAll()) this.#verdicts.giveBack(attempt);
      lane.wakeup.wake();
    }
    if (this.running > 0) await this.#handlersEnd(hurry);
    if (this.running > 0) {
      this.#executor.abortAll();
      const grace = new AbortController();
      const cancel = clock.setTimer(() => grace.abort(), abortGraceMs);
      await this.#handlersEnd(grace.signal);
      cancel();
      this.#executor.releaseAll();
    }
    const flushed = new AbortController();
    void this.#settlements.whenEmpty().then(() => flushed.abort());
    await pause(FLUSH_MS, flushed.signal, clock);
    if (this.#settlements.pending > 0) {
      logger.error("worker.unsettled", { count: this.#settlements.pending });
    }
    await this.#end();
  }

  async #end(): Promise<void> {
    this.#ended.abort();
    this.#deadlines.stop();
    for (const lane of this.#lanes) lane.wakeup.wake();
    await Promise.all(this.#running);
  }

  /** The loops don't reject; if one did all the same, the others would work on without it, so it is said loudly. */
  #supervise(loop: Promise<void>): void {
    const { logger } = this.#settings;
    this.#running.push(loop.catch((error: unknown) => logger.error("worker.loop_died", { error })));
  }

  #handlerEnded: () => void = () => undefined;

  async #handlersEnd(patience: AbortSignal): Promise<void> {
    while (this.running > 0 && !patience.aborted) {
      await new Promise<void>((resolve) => {
        this.#handlerEnded = resolve;
        patience.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }

  /** A slot came free: the next job starts, and if the buffer runs low the lane is woken to claim. */
  #onFree(lane: Lane): void {
    this.#executor.fill(lane);
    if (this.#phase.isStopping) this.#handlerEnded();
    else if (lane.wakeup.isAsleep && lane.isHungry) lane.wakeup.wake();
  }

  #stir(): void {
    for (const lane of this.#lanes) lane.stir();
  }

  #tellIfIdle(): void {
    if (this.#idleWaiters.size === 0) return;
    const isIdle =
      this.running === 0 &&
      this.#settlements.pending === 0 &&
      this.#lanes.every(
        (lane) => lane.emptyAtWork === this.#phase.workCount && lane.buffered === 0,
      );
    if (isIdle) for (const tell of [...this.#idleWaiters]) tell();
    // Somebody waits for the end of the work: then look at once whether it is there.
    else
      for (const lane of this.#lanes) if (lane.emptyAtWork !== this.#phase.workCount) lane.stir();
  }
}

function makeLanes({ lanes, clock }: WorkerSettings, signedIn: RegisteredWorker): Lane[] {
  const named = lanes.filter((lane) => lane.name !== EVERY_QUEUE);
  const idOf = (name: string): number =>
    signedIn.queueIds[named.findIndex((lane) => lane.name === name)] ?? -1;
  const typeIds = numberArray(signedIn.typeIds) ?? "{}";
  return lanes.map((lane) => {
    const isRest = lane.name === EVERY_QUEUE;
    const scope: LaneScope = {
      queueIds: isRest ? null : numberArray([idOf(lane.name)]),
      exceptQueueIds: isRest && named.length > 0 ? numberArray(signedIn.queueIds) : null,
      typeIds,
    };
    return new Lane(lane, scope, clock);
  });
}

/** The queues of all lanes together. */
function unionOf(lanes: readonly Lane[]): Pick<LaneScope, "queueIds" | "typeIds"> {
  const [first] = lanes;
  const queues = lanes.map((lane) => lane.scope.queueIds);
  return {
    queueIds: queues.includes(null)
      ? null
      : `{${queues.map((ids) => ids?.slice(1, -1)).join(",")}}`,
    typeIds: first?.scope.typeIds ?? "{}",
  };
}
