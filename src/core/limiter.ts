/** Lets so many pieces of work run at a time; the others wait in line. */
export class Limiter {
  #free: number;
  readonly #line = new Set<() => void>();

  constructor(limit: number) {
    this.#free = limit;
  }

  /** Rejects with the signal's reason when it aborts before the work has its turn. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    // Whoever leaves hands its place on, so nobody who comes later can take it.
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      const [next] = this.#line;
      if (next) next();
      else this.#free += 1;
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        this.#line.delete(enter);
        signal?.removeEventListener("abort", onAbort);
        resolve();
      };
      const onAbort = (): void => {
        if (this.#line.delete(enter)) reject(signal?.reason);
      };
      this.#line.add(enter);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}
