import { raceSignal } from "../core/signals.ts";
import { isThere } from "./checked-source.ts";
import type { Source } from "./one-connection.ts";
import type { PgPool, PgPoolClient } from "./pg.ts";
import { describe, PgConnection } from "./pg-connection.ts";

/** The connections of a node-postgres pool, of which one that was given up makes those of its age suspect. */
export class PgSource implements Source<PgConnection> {
  readonly #pool: PgPool;
  readonly #host: string;
  /** Local time at which a connection was given up last. */
  #givenUpAt = -Infinity;

  constructor(pool: PgPool, host: string) {
    this.#pool = pool;
    this.#host = host;
  }

  async acquire(signal: AbortSignal | undefined): Promise<PgConnection> {
    for (;;) {
      const connection = await this.#checkOut(signal);
      if (!connection.isOlderThan(this.#givenUpAt)) return connection;
      if (await isThere(connection)) return connection;
      connection.end();
      signal?.throwIfAborted();
    }
  }

  release(connection: PgConnection): void {
    connection.release();
  }

  async #checkOut(signal: AbortSignal | undefined): Promise<PgConnection> {
    signal?.throwIfAborted();
    const client = await checkOut(this.#pool, signal).catch((error: unknown) => {
      throw signal?.aborted ? error : describe(error, this.#host);
    });
    return new PgConnection(client, this.#host, (isBroken) => {
      if (isBroken) this.#givenUpAt = performance.now();
      client.release(isBroken);
    });
  }
}

/** A client of the pool. One that comes after the signal has aborted is given back. */
export async function checkOut(
  pool: PgPool,
  signal: AbortSignal | undefined,
): Promise<PgPoolClient> {
  const checkingOut = pool.connect();
  try {
    return await raceSignal(checkingOut, signal);
  } catch (error) {
    if (signal?.aborted) checkingOut.then((late) => late.release()).catch(() => undefined);
    throw error;
  }
}
