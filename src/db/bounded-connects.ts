import { systemClock } from "../core/clock.ts";
import { setDeadline } from "../core/signals.ts";
import type { PgPool } from "./pg.ts";
import type { PgClient } from "./pg-connection.ts";

/** The part of node-postgres' clients that is used to make them. */
export interface OwnClient extends PgClient {
  connect(...args: unknown[]): unknown;
  end(): Promise<unknown>;
  once(event: "connect" | "end", listener: () => void): unknown;
}

type ClientClass = new (...args: never[]) => OwnClient;

const BOUNDED = Symbol.for("millrace.boundedConnects");

/**
 * Limits how long a pool may take to open a connection, where its options set no limit. node-postgres waits for a server that accepts and
 * then says nothing until the kernel gives up, and each such wait holds one of the pool's places: when all are held, nobody gets a connection, though the
 * network has long been well. How long callers wait for a place stays as it was. Calling it twice is harmless.
 */
export function boundConnects(pool: PgPool, ms: number): void {
  const { Client, options } = pool;
  if (typeof Client !== "function" || BOUNDED in Client) return;
  if ((options?.connectionTimeoutMillis ?? 0) > 0) return;
  pool.Client = bounded(Client as ClientClass, ms);
}

function bounded(Client: ClientClass, ms: number): ClientClass {
  return class extends Client {
    static readonly [BOUNDED] = true;

    #isBounded = false;

    override connect(...args: unknown[]): unknown {
      // A second call is an error of its own, and no reason to end a connection that is there.
      if (this.#isBounded) return super.connect(...args);
      this.#isBounded = true;
      const stop = setDeadline(() => destroyStream(this), ms, systemClock);
      this.once("connect", stop);
      this.once("end", stop);
      return super.connect(...args);
    }
  };
}

/** Ends a client at once, whatever it waits for. */
export function destroyStream({ connection }: PgClient): void {
  const { stream = {} } = connection ?? {};
  if ("destroy" in stream && typeof stream.destroy === "function") stream.destroy();
}
