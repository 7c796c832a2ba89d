import { deadline, raceSignal } from "../core/signals.ts";
import type { ConnectionPool, Pooled } from "./connection-pool.ts";
import type { OneConnection, Source } from "./one-connection.ts";

/** How long a connection may take to show that it is still there, after another was lost. */
const SIGN_MS = 1_000;

/** When a connection of an address was lost last, by the local clock. Shared by all that lead there. */
export class LastLoss {
  at: number = -Infinity;
}

/**
 * The connections of a pool, of which one that was lost makes those suspect that were idle then: a firewall that forgot one has most likely
 * forgotten all, and to find each of them dead by a call that runs out of time takes far longer than the fault did.
 */
export class CheckedSource<C extends OneConnection & Pooled> implements Source<C> {
  readonly #pool: ConnectionPool<C>;
  readonly #lastLoss: LastLoss;

  constructor(pool: ConnectionPool<C>, lastLoss: LastLoss) {
    this.#pool = pool;
    this.#lastLoss = lastLoss;
  }

  async acquire(signal: AbortSignal | undefined): Promise<C> {
    for (;;) {
      const connection = await this.#pool.acquire(signal);
      if (connection.idleSince >= this.#lastLoss.at) return connection;
      if (await isThere(connection)) return connection;
      connection.end();
      // No loss of its own: on a slow server each failed check would make all others suspect anew.
      this.#pool.release(connection);
      signal?.throwIfAborted();
    }
  }

  release(connection: C): void {
    if (connection.isLost) this.#lastLoss.at = performance.now();
    this.#pool.release(connection);
  }
}

/** Whether a connection answers. */
export async function isThere(connection: Pick<OneConnection, "run">): Promise<boolean> {
  const patience = deadline(SIGN_MS, () => new Error("no answer"));
  try {
    await raceSignal(connection.run("select 1", [], false), patience.signal);
    return true;
  } catch {
    return false;
  } finally {
    patience.release();
  }
}
