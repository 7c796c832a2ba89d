import { deadline, Ending, raceSignal } from "../core/signals.ts";
import type { RegisteredWorker } from "../db/sign-in.ts";
import { heartbeatWorker } from "../db/worker-functions.ts";
import { Bells } from "./bells.ts";
import { Blocks } from "./blocks.ts";
import { CancelCalls } from "./cancel-calls.ts";
import { ChildSweep } from "./child-sweep.ts";
import { DatabaseTime } from "./database-time.ts";
import { Deadlines } from "./deadlines.ts";
import { Doorbell } from "./doorbell.ts";
import { Events } from "./events.ts";
import { Executor } from "./executor.ts";
import { Intake } from "./intake.ts";
import type { Lane } from "./lane.ts";
import { type LaneLoopParts, type Phase, runLane } from "./lane-loop.ts";
import { LeaseBook } from "./lease-book.ts";
import { Link } from "./link.ts";
import { makeLanes } from "./make-lanes.ts";
import { Names } from "./names.ts";
import { newsOf } from "./news.ts";
import { takeOffer } from "./offers.ts";
import { isSomethingOpen } from "./open-work.ts";
import type { WorkerSettings } from "./options.ts";
import { Orphans } from "./orphans.ts";
import { Overruns } from "./overruns.ts";
import { Settlements } from "./settlements.ts";
import type { UpkeepParts } from "./upkeep.ts";
import { Verdicts } from "./verdicts.ts";
import { Waiters } from "./waiters.ts";
import { UPKEEP } from "./watch.ts";

/** How long what is finished may take to be written after the handlers have ended, and when the worker was told to hurry. */
const FLUSH_MS = { usual: 5_000, hurried: 2_000 } as const;

/** A started worker: its parts, and the loops that keep them going. */
export class Engine {
  readonly #settings: WorkerSettings;
  readonly #book = new LeaseBook();
  readonly #settlements: Settlements;
  readonly #deadlines: Deadlines;
  readonly #verdicts: Verdicts;
  readonly #executor: Executor;
  readonly #link: Link;
  readonly #bells: Bells;
  readonly #doorbell: Doorbell;
  readonly #lanes: readonly Lane[];
  readonly #names: Names;
  readonly #loops: LaneLoopParts;
  readonly #upkeep: UpkeepParts;
  readonly #children: ChildSweep;
  readonly #phase: Phase;
  readonly #orphans: Orphans;
  readonly #ended = new Ending();
  readonly #idleWaiters = new Waiters();
  #laneLoops: readonly Promise<void>[] = [];
  #loopsEnd: Promise<unknown> = Promise.resolve();
  readonly #onDeath: (error: unknown) => void;
  #onHandlerEnd: () => void = () => undefined;
  #signedIn: RegisteredWorker;

  constructor(
    settings: WorkerSettings,
    signedIn: RegisteredWorker,
    register: (signal: AbortSignal) => Promise<RegisteredWorker>,
    onDeath: (error: unknown) => void,
  ) {
    const { sql, clock, logger, routes, random, leaseMs } = settings;
    const book = this.#book;
    const worker = (): number => this.#signedIn.worker;
    const events = new Events(logger, settings.onEvent);
    const blocks = new Blocks({ clock, events, leaseMs });
    const whyLost = (): string | undefined => blocks.explain();
    this.#settings = settings;
    this.#signedIn = signedIn;
    this.#onDeath = onDeath;
    this.#lanes = makeLanes(settings, signedIn);
    this.#settlements = new Settlements(clock, settings.settleDelayMs);
    this.#deadlines = new Deadlines(clock);
    this.#phase = {
      isStopping: false,
      isClosing: false,
      workCount: 0,
      onIdle: () => this.#tellIfIdle(),
    };
    this.#link = new Link({
      clock,
      events,
      random,
      callTimeoutMs: Math.max(leaseMs / 2, 5_000),
      signal: this.#ended.signal,
      greet: (signal) => heartbeatWorker(sql, worker(), this.#upkeep.describe(), signal),
      onBack: () => this.#stir(),
    });
    this.#orphans = new Orphans({ settings, worker, link: this.#link, book });
    this.#verdicts = new Verdicts({
      book,
      settlements: this.#settlements,
      deadlines: this.#deadlines,
      events,
      whyLost,
      clock,
      logger,
    });
    this.#executor = new Executor({
      verdicts: this.#verdicts,
      deadlines: this.#deadlines,
      events,
      blocks,
      tools: { sql, clock, logger, worker, random, verdicts: this.#verdicts },
      onFree: (lane) => this.#onFree(lane),
    });
    const link = this.#link;
    this.#bells = new Bells({ settings, worker, link, lanes: this.#lanes, phase: this.#phase });
    this.#doorbell = new Doorbell({
      sql,
      clock,
      logger,
      worker,
      random,
      arm: (isHeard, lease) => this.#bells.arm(isHeard, lease),
      onArmed: () => this.#stir(),
      onRing: () => this.#stir(),
      onHeld: () => this.#bells.passHeld(),
      offerChannel: this.#bells.channel,
      onOffer: (offer) => void takeOffer(offer, this.#lanes, this.#loops),
      onCancel: new CancelCalls({ settings, worker, link, book, verdicts: this.#verdicts }).hear,
    });
    this.#names = new Names(settings, link, this.#lanes, this.#doorbell.rearm, signedIn);
    const children = new ChildSweep({
      settings,
      link: this.#link,
      onFreed: () => this.#stir(),
      onRest: () => this.#tellIfIdle(),
    });
    this.#children = children;
    const shared = { settings, worker, link, book, verdicts: this.#verdicts, children };
    this.#loops = {
      ...shared,
      doorbell: this.#doorbell,
      settlements: this.#settlements,
      executor: this.#executor,
      intake: new Intake({ book, events, whyLost, logger, routes }),
      phase: this.#phase,
      orphans: this.#orphans,
      time: new DatabaseTime(),
    };
    const { running } = this.#executor;
    const overruns = new Overruns({ clock, events, running });
    this.#upkeep = {
      ...shared,
      blocks,
      running,
      overruns,
      describe: () => newsOf({ settings, lanes: this.#lanes, running, blocks, overruns }),
      register: async (signal) => {
        this.#signedIn = await register(signal);
      },
    };
  }

  get worker(): number {
    return this.#signedIn.worker;
  }
  /** From now on no job is brought to it: it works until there is none, and must not miss one that is on its way. */
  refuseOffers(): void {
    this.#bells.takesOffers = false;
  }

  get running(): number {
    return this.#executor.running.size;
  }

  /** Jobs given back since the start. */
  get released(): number {
    return this.#verdicts.released;
  }

  start(): void {
    const ended = this.#ended;
    const lanes = this.#lanes.map((lane) => runLane(lane, this.#loops, ended.signal));
    const upkeep = UPKEEP.map((keep) => keep(this.#upkeep, ended.signal));
    const looks = [this.#orphans, this.#children, this.#names].map((one) => one.run(ended.signal));
    const isListening = this.#settings.listen && this.#settings.sql.listen;
    const doorbell = isListening ? [this.#doorbell.run(ended.signal)] : [];
    this.#laneLoops = lanes.map((loop) => this.#supervise(loop));
    const others = [...upkeep, ...looks, ...doorbell].map((loop) => this.#supervise(loop));
    this.#loopsEnd = Promise.all([...this.#laneLoops, ...others]);
  }

  /** Resolves when every lane found nothing since the last piece of work, or when the signal aborts. */
  whenIdle(signal: AbortSignal): Promise<void> {
    return this.#idleWaiters.wait(signal, () => this.#tellIfIdle());
  }

  /**
   * Whether a job of these types and queues is under way, wherever it is, or falls due within the horizon. Blocked jobs don't count by
   * themselves: what they wait for does, if it is ours.
   */
  isSomethingOpen(horizonMs: number): Promise<boolean> {
    return isSomethingOpen(this.#lanes, this.#link, this.#settings.sql, horizonMs);
  }

  /**
   * Brings everything to an end: waits for handlers until `hurry` aborts, then aborts them and gives back what is left. Answers
   * whether the database knows it all.
   */
  async drain(hurry: AbortSignal): Promise<boolean> {
    const { clock, abortGraceMs } = this.#settings;
    this.#phase.isStopping = true;
    this.#bells.disarm();
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
    const isClean = await this.#flush(hurry.aborted ? FLUSH_MS.hurried : FLUSH_MS.usual);
    await this.#end();
    return isClean;
  }

  /** Waits until claims under way have come back and all ends are written; not for ever, if the database is away. */
  async #flush(patienceMs: number): Promise<boolean> {
    const { clock, logger } = this.#settings;
    this.#phase.isClosing = true;
    for (const lane of this.#lanes) lane.wakeup.wake();
    const patience = deadline(patienceMs, () => undefined, undefined, clock);
    const last = Promise.all([...this.#laneLoops, this.#bells.settled()]).then(async () => {
      if (this.#orphans.isLooking) await this.#orphans.look();
    });
    await raceSignal(last, patience.signal).catch(() => undefined);
    patience.release();
    if (this.#settlements.pending > 0) {
      logger.error("worker.unsettled", { count: this.#settlements.pending });
    }
    return !patience.signal.aborted;
  }

  async #end(): Promise<void> {
    this.#ended.abort();
    this.#deadlines.stop();
    for (const sleeper of [...this.#lanes, this.#children, this.#orphans]) sleeper.wakeup.wake();
    await this.#loopsEnd;
  }

  /** The loops don't reject. If one did all the same, a worker without it would only seem to work: so it stops. */
  #supervise(loop: Promise<void>): Promise<void> {
    return loop.catch((error: unknown) => {
      this.#settings.logger.error("worker.loop_died", { error });
      this.#onDeath(error);
    });
  }

  /** Resolves when no handler runs any more, or when the patience is over. */
  #handlersEnd(patience: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#onHandlerEnd = () => {
        if (this.running === 0) resolve();
      };
      patience.addEventListener("abort", () => resolve(), { once: true });
      if (this.running === 0 || patience.aborted) resolve();
    });
  }

  /** A slot came free: the next job starts, and if the buffer runs low the lane is woken to claim. */
  #onFree(lane: Lane): void {
    this.#executor.fill(lane);
    if (this.#phase.isStopping) this.#onHandlerEnd();
    else if (lane.wakeup.isAsleep && lane.isHungry) lane.wakeup.wake();
  }

  #stir(): void {
    this.#names.hurry();
    for (const lane of this.#lanes) lane.stir();
  }

  #tellIfIdle(): void {
    if (this.#idleWaiters.size === 0) return;
    const isIdle =
      this.running === 0 &&
      !this.#children.isFreeing &&
      this.#settlements.pending === 0 &&
      this.#lanes.every(
        (lane) => lane.emptyAtWork === this.#phase.workCount && lane.buffered === 0,
      );
    if (isIdle) this.#idleWaiters.tell();
    // Somebody waits for the end of the work: then look at once whether it is there.
    else
      for (const lane of this.#lanes) if (lane.emptyAtWork !== this.#phase.workCount) lane.stir();
  }
}
