import { DatabaseUnreachableError } from "../core/database-errors.ts";

/** What can be kept in a pool. */
export interface Pooled {
  readonly isLost: boolean;
  /** Local time after which it is not used again. */
  readonly agesAt: number;
  /** Local time at which it was last given back. */
  idleSince: number;
  end(error?: unknown): void;
}

export interface PoolOptions<C extends Pooled> {
  /** The most connections. */
  readonly max: number;
  /** The signal aborts when nobody waits for it any more. */
  readonly open: (signal: AbortSignal) => Promise<C>;
  /** A connection that was not used for so long is closed. @default never */
  readonly idleMs?: number;
  /** Who has waited for this long gets a connection beyond `max`, of at most as many again. @default never */
  readonly overflowMs?: number;
}

interface Waiting<C> {
  readonly resolve: (connection: C) => void;
  readonly reject: (error: unknown) => void;
  readonly signal: AbortSignal | undefined;
  readonly since: number;
}

/** Hands out connections, each to one at a time, and makes them when they are needed. */
export class ConnectionPool<C extends Pooled> {
  readonly #options: PoolOptions<C>;
  readonly #idle: C[] = [];
  readonly #busy = new Set<C>();
  readonly #line = new Set<Waiting<C>>();
  readonly #opening = new Set<AbortController>();
  #overflowTimer: ReturnType<typeof setTimeout> | undefined;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(options: PoolOptions<C>) {
    this.#options = options;
  }

  /** Whoever gets a connection gives it back by `release`. Rejects as the making of one does, or with the signal's reason. */
  acquire(signal?: AbortSignal): Promise<C> {
    if (this.#isClosed) return Promise.reject(closed());
    if (signal?.aborted) return Promise.reject(signal.reason);
    const connection = this.#takeIdle();
    if (connection) return Promise.resolve(connection);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        if (this.#line.delete(waiting)) reject(signal?.reason);
      };
      const forget = (): void => signal?.removeEventListener("abort", onAbort);
      const waiting: Waiting<C> = {
        signal,
        since: performance.now(),
        resolve(connection) {
          forget();
          resolve(connection);
        },
        reject(error) {
          forget();
          reject(error);
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#line.add(waiting);
      this.#serve();
    });
  }

  release(connection: C): void {
    if (!this.#busy.delete(connection)) return;
    connection.idleSince = performance.now();
    const isExtra = this.#size >= this.#options.max && this.#line.size === 0;
    if (this.#isClosed || isExtra || connection.idleSince > connection.agesAt) {
      connection.end();
    }
    if (!connection.isLost) this.#idle.push(connection);
    this.#serve();
    this.#armIdle();
  }

  /** Ends all of them at once, also those that are being made. */
  close(): void {
    this.#isClosed = true;
    for (const opening of this.#opening) opening.abort(closed());
    clearTimeout(this.#overflowTimer);
    clearTimeout(this.#idleTimer);
    for (const waiting of this.#line) waiting.reject(closed());
    this.#line.clear();
    for (const connection of [...this.#idle, ...this.#busy]) connection.end(closed());
    this.#idle.length = 0;
  }

  get #size(): number {
    return this.#idle.length + this.#busy.size + this.#opening.size;
  }

  #takeIdle(): C | undefined {
    for (let next = this.#idle.pop(); next; next = this.#idle.pop()) {
      if (next.isLost) continue;
      this.#busy.add(next);
      return next;
    }
    return undefined;
  }

  /** Who waits gets what is idle, or what may still be made. */
  #serve(): void {
    const { max } = this.#options;
    for (const waiting of this.#line) {
      const connection = this.#takeIdle();
      if (!connection && this.#size >= max) break;
      this.#line.delete(waiting);
      if (connection) waiting.resolve(connection);
      else void this.#make(waiting);
    }
    this.#armOverflow();
  }

  /** Never rejects. */
  async #make(waiting: Waiting<C>): Promise<void> {
    const { signal } = waiting;
    const opening = new AbortController();
    const giveUp = (): void => opening.abort(signal?.reason);
    signal?.addEventListener("abort", giveUp, { once: true });
    if (signal?.aborted) giveUp();
    this.#opening.add(opening);
    const done = (): void => {
      this.#opening.delete(opening);
      signal?.removeEventListener("abort", giveUp);
    };
    try {
      const connection = await this.#options.open(opening.signal);
      done();
      if (this.#isClosed) connection.end();
      this.#busy.add(connection);
      waiting.resolve(connection);
    } catch (error) {
      done();
      waiting.reject(error);
      this.#serve();
    }
  }

  #armOverflow(): void {
    const { overflowMs } = this.#options;
    const [first] = this.#line;
    if (!first || overflowMs === undefined || this.#overflowTimer !== undefined) return;
    const wait = Math.max(0, first.since + overflowMs - performance.now());
    this.#overflowTimer = setTimeout(() => this.#overflow(overflowMs), wait);
  }

  #overflow(overflowMs: number): void {
    this.#overflowTimer = undefined;
    const now = performance.now();
    for (const waiting of this.#line) {
      if (now - waiting.since < overflowMs || this.#size >= this.#options.max * 2) break;
      this.#line.delete(waiting);
      void this.#make(waiting);
    }
    // Full: they wait for what is given back.
    if (this.#size < this.#options.max * 2) this.#armOverflow();
  }

  #armIdle(): void {
    const { idleMs } = this.#options;
    if (idleMs === undefined || this.#idleTimer !== undefined || this.#idle.length === 0) return;
    this.#idleTimer = setTimeout(() => {
      this.#idleTimer = undefined;
      const kept = this.#idle.filter(({ idleSince }) => performance.now() - idleSince < idleMs);
      const left = this.#idle.splice(0, this.#idle.length, ...kept);
      for (const connection of left) if (!kept.includes(connection)) connection.end();
      this.#armIdle();
    }, idleMs);
  }
}

function closed(): DatabaseUnreachableError {
  return new DatabaseUnreachableError("its address", "the connection was closed by this program");
}
