/** Those who wait for something that happens once in a while. */
export class Waiters {
  readonly #waiting = new Set<() => void>();

  get size(): number {
    return this.#waiting.size;
  }

  /** Resolves at the next `tell`, or when the signal aborts. `onWait` is called once it waits. */
  wait(signal: AbortSignal, onWait: () => void): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener("abort", done, { once: true });
      if (signal.aborted) done();
      else onWait();
    });
  }

  tell(): void {
    for (const done of [...this.#waiting]) done();
  }
}
