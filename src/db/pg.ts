import {
  DatabaseTimeoutError,
  DatabaseUnreachableError,
  QueueSqlError,
} from "../core/database-errors.ts";
import { Limiter } from "../core/limiter.ts";
import { raceSignal } from "../core/signals.ts";
import { parseAddress } from "./address.ts";
import { boundConnects, destroyStream, type OwnClient } from "./bounded-connects.ts";
import { ConnectionPool } from "./connection-pool.ts";
import { keepListening } from "./keep-listening.ts";
import { runOnOne } from "./one-connection.ts";
import { openEar } from "./open-ear.ts";
import { describe, type PgClient, PgConnection, type PgQueryable } from "./pg-connection.ts";
import { checkOut, PgSource } from "./pg-source.ts";
import { pgTransaction } from "./pg-transaction.ts";
import { SilenceWatch } from "./silence.ts";
import type { Sql, SqlTransaction } from "./sql.ts";

export interface PgPool extends PgQueryable {
  connect(): Promise<PgPoolClient>;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "connect", listener: (client: PgClient) => void): unknown;
  removeListener(event: string, listener: unknown): unknown;
  readonly options?: {
    /** node-postgres hides it from copies of its options. */
    readonly password?: unknown;
    readonly host?: string | undefined;
    readonly port?: number | undefined;
    readonly connectionString?: string | undefined;
    readonly max?: number | undefined;
    readonly connectionTimeoutMillis?: number | undefined;
  };
  /** Makes the pool's clients, and others like them. */
  Client?: unknown;
}

export interface PgPoolClient extends PgClient {
  release(error?: Error | boolean): void;
}

export interface PgOptions {
  /** Whether a pooler in transaction mode stands between: statements are not prepared, LISTEN is not tried. @default false */
  readonly pooled?: boolean;
  /** How long a connection may take to be made, where the pool itself names no `connectionTimeoutMillis`. @default 10_000 */
  readonly connectTimeoutMs?: number;
}

/** Connections of a pool that transactions leave to the statements in between. */
const KEPT_FREE = 1;
/** How long a connection may take to be made. */
const CONNECT_MS = 10_000;

/**
 * Makes a node-postgres pool usable here; whoever made the pool ends it. Give it at least two connections (`max`): handlers'
 * transactions leave one to the worker's own statements. LISTEN, the extension of leases, and the search for connections that fell silent
 * have one each beyond the pool, with the same settings, made when they are needed.
 */
export function fromPg(
  pool: PgPool,
  { pooled = false, connectTimeoutMs = CONNECT_MS }: PgOptions = {},
): Sql {
  const host = hostOf(pool);
  const max = pool.options?.max ?? 10;
  const transactions = new Limiter(Math.max(1, max - KEPT_FREE));
  const open = (signal?: AbortSignal): Promise<PgConnection> => openOwn(pool, host, signal);
  const watch = new SilenceWatch(open);
  const source = new PgSource(pool, host);
  let canPrepare = !pooled;
  hearErrors(pool);
  boundConnects(pool, connectTimeoutMs);
  const query: Sql["query"] = async (text, params, options) => {
    const prepare = canPrepare && options?.prepare === true;
    try {
      return await runOnOne(source, watch, text, params, { ...options, prepare });
    } catch (error) {
      if (!prepare || !isLostStatement(error)) throw error;
      // A pooler hands out connections that don't know our statements. It refused this one before it ran, so once more without.
      canPrepare = false;
      return runOnOne(source, watch, text, params, { ...options, prepare: false });
    }
  };
  const openListening = async (
    hear: (channel: string, payload: string) => void,
    signal: AbortSignal,
  ) => {
    const connection = await open(signal);
    connection.client.on("notification", ({ channel, payload = "" }) => hear(channel, payload));
    return connection;
  };
  const notify = (channel: string, payload: string, signal: AbortSignal) =>
    query("select pg_notify($1::text, $2::text)", [channel, payload], { signal });
  return {
    query,
    transaction: (work, options) =>
      transactions.run(() => pgTransaction(source, watch, work, options), options?.signal),
    ...(!pooled && {
      listen: (channels, onPayload, options) =>
        keepListening(
          () =>
            openEar({ open: openListening, notify, channels, onPayload, signal: options.signal }),
          options,
        ),
    }),
    ...(typeof pool.Client === "function" && { dedicated: () => dedicatedOf(open, watch) }),
    close: () => Promise.resolve(),
  };
}

/** Once for each pool, however many queues and workers it serves. */
function hearErrors(pool: PgPool): void {
  // An idle client that breaks is an 'error' event, which ends the process when nobody listens. The pool replaces the client itself.
  pool.removeListener("error", ignore);
  pool.on("error", ignore);
  // So is one of a client that breaks in the moment it is handed over: the pool listens no more, and we don't yet.
  pool.removeListener("connect", ignoreErrors);
  pool.on("connect", ignoreErrors);
}

function ignore(): void {
  // Whoever has the connection hears of it.
}

function ignoreErrors(client: PgClient): void {
  client.on("error", ignore);
}

/** Host and port, fit for messages: never user or password. */
function hostOf({ options = {} }: PgPool): string {
  const { connectionString, host = "localhost", port = 5432 } = options;
  if (connectionString === undefined) return `${host}:${port}`;
  try {
    return parseAddress(connectionString).host;
  } catch {
    return "the database";
  }
}

/** Makes a node-postgres client with an open transaction usable here. */
export function inPgTransaction(client: PgQueryable, host = "the database"): SqlTransaction {
  const connection = new PgConnection(client as PgClient, host, () => undefined);
  connection.release();
  return {
    async query(text, params, { signal, prepare } = {}) {
      signal?.throwIfAborted();
      return raceSignal(connection.run(text, params, prepare), signal);
    },
    driver: client,
  };
}

/** A prepared statement exists already, or does not exist: somebody hands our connections around. */
function isLostStatement(error: unknown): boolean {
  return error instanceof QueueSqlError && ["26000", "42P05"].includes(error.sqlstate);
}

/** A client beyond those of the pool; from the pool, if it does not say how it makes them. */
async function openOwn(
  pool: PgPool,
  host: string,
  signal: AbortSignal | undefined,
): Promise<PgConnection> {
  if (typeof pool.Client !== "function") {
    const client = await checkOut(pool, signal);
    return new PgConnection(client, host, () => client.release(true));
  }
  const Client = pool.Client as new (options: unknown) => OwnClient;
  const { password } = pool.options ?? {};
  const client = new Client({
    ...pool.options,
    ...(password !== undefined && { password }),
  });
  const end = (): void => void client.end().catch(() => undefined);
  const connection = new PgConnection(client, host, end);
  const connecting = Promise.resolve(client.connect());
  try {
    await raceSignal(connecting, signal);
    if (connection.isLost) throw new DatabaseUnreachableError(host, "the connection broke");
    return connection;
  } catch (error) {
    connection.end();
    if (!signal?.aborted) throw describe(error, host);
    // A socket that waits for an answer is not ended by a word; and one that is made all the same is not for us any more.
    destroyStream(client);
    connecting.then(end, () => undefined);
    throw error;
  }
}

function dedicatedOf(open: () => Promise<PgConnection>, watch: SilenceWatch): Sql {
  const one = new ConnectionPool({ max: 3, open });
  return {
    query: (text, params, options) => runOnOne(one, watch, text, params, options),
    transaction: () => Promise.reject(new DatabaseTimeoutError(null, "It has no transactions")),
    async close() {
      one.close();
    },
  };
}
