import { backoffDelay } from "../core/backoff.ts";
import { DatabaseUnreachableError, QueueSqlError } from "../core/database-errors.ts";
import { Limiter } from "../core/limiter.ts";
import { pause, raceSignal } from "../core/signals.ts";
import { parseAddress } from "./address.ts";
import { seeOwnNotification } from "./listen-probe.ts";
import type {
  Listening,
  ListenOptions,
  QueryOptions,
  Sql,
  SqlParam,
  SqlRow,
  SqlTransaction,
} from "./sql.ts";
import { translateError } from "./sqlstate.ts";

/** The part of node-postgres that is used here; its pools and clients both have it. */
export interface PgQueryable {
  query(config: { text: string; values?: unknown[]; name?: string }): Promise<{ rows: SqlRow[] }>;
}

export interface PgPool extends PgQueryable {
  connect(): Promise<PgClient>;
  on(event: "error", listener: (error: Error) => void): unknown;
  readonly options?: {
    readonly host?: string | undefined;
    readonly port?: number | undefined;
    readonly connectionString?: string | undefined;
    readonly max?: number | undefined;
  };
}

export interface PgClient extends PgQueryable {
  release(error?: Error | boolean): void;
  on(
    event: "notification",
    listener: (message: { channel: string; payload?: string | undefined }) => void,
  ): unknown;
  on(event: "error" | "end", listener: (error?: Error) => void): unknown;
  removeListener(event: "error", listener: (error?: Error) => void): unknown;
}

export interface PgOptions {
  /** Whether a pooler in transaction mode stands between: statements are not prepared, LISTEN is not tried. @default false */
  readonly pooled?: boolean;
}

/** Connections of a pool that transactions leave to the statements in between, such as those that keep leases alive. */
const KEPT_FREE = 3;

/**
 * Makes a node-postgres pool usable here; whoever made the pool ends it. Give it at least four connections (`max`): one is used for
 * LISTEN, and handlers' transactions must not keep the worker from its own statements. With fewer than three LISTEN is not tried.
 */
export function fromPg(pool: PgPool, { pooled = false }: PgOptions = {}): Sql {
  const host = hostOf(pool);
  const max = pool.options?.max ?? 10;
  const transactions = new Limiter(Math.max(1, max - KEPT_FREE));
  let canPrepare = !pooled;
  // An idle client that breaks is an 'error' event, which ends the process when nobody listens. The pool replaces the client itself.
  pool.on("error", () => undefined);
  return {
    async query(text, params, options) {
      const prepare = canPrepare && options?.prepare === true;
      try {
        return await run(pool, host, text, params, { ...options, prepare });
      } catch (error) {
        if (!prepare || !isLostStatement(error)) throw error;
        // A pooler hands out connections that don't know our statements. It refused this one before it ran, so once more without.
        canPrepare = false;
        return run(pool, host, text, params, { ...options, prepare: false });
      }
    },
    transaction: (work) => transactions.run(() => transaction(pool, host, work)),
    ...(!pooled &&
      max >= KEPT_FREE &&
      ({
        listen: (channels, onPayload, options) => listen(pool, host, channels, onPayload, options),
      } satisfies Pick<Sql, "listen">)),
    close: () => Promise.resolve(),
  };
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
  return {
    query: (text, params, options) => run(client, host, text, params, options),
    driver: client,
  };
}

/** A prepared statement exists already, or does not exist: somebody hands our connections around. */
function isLostStatement(error: unknown): boolean {
  return error instanceof QueueSqlError && ["26000", "42P05"].includes(error.sqlstate);
}

/** node-postgres prepares a statement when it has a name; the same text must always have the same one. */
function nameOf(text: string): string {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    a = Math.imul(a ^ unit, 2654435761);
    b = Math.imul(b ^ unit, 1597334677);
  }
  return `millrace_${(a >>> 0).toString(16)}${(b >>> 0).toString(16)}`;
}

async function run(
  target: PgQueryable,
  host: string,
  text: string,
  params?: readonly SqlParam[],
  { signal, prepare = false }: QueryOptions = {},
): Promise<readonly SqlRow[]> {
  signal?.throwIfAborted();
  try {
    const answer = target.query({
      text,
      // Without a values array the simple protocol is used, which allows several statements.
      ...(params && params.length > 0 && { values: [...params] }),
      ...(prepare && { name: nameOf(text) }),
    });
    const { rows = [] } = await raceSignal(answer, signal);
    return rows;
  } catch (error) {
    if (signal?.aborted && error === signal.reason) throw error;
    throw describe(error, host);
  }
}

/** Here an error without SQLSTATE is about the connection: node-postgres gives those no code. */
function describe(error: unknown, host: string): unknown {
  const translated = translateError(error, host);
  if (translated !== error || !(error instanceof Error) || error instanceof TypeError)
    return translated;
  return new DatabaseUnreachableError(host, error.message, { cause: error });
}

async function checkOut(pool: PgPool, host: string): Promise<PgClient> {
  try {
    return await pool.connect();
  } catch (error) {
    throw describe(error, host);
  }
}

async function transaction<T>(
  pool: PgPool,
  host: string,
  work: (tx: SqlTransaction) => Promise<T>,
): Promise<T> {
  const client = await checkOut(pool, host);
  let failure: Error | boolean = false;
  // While it is ours the pool does not listen, and an 'error' event that nobody hears ends the process.
  const onError = (): void => undefined;
  client.on("error", onError);
  try {
    await run(client, host, "begin");
    const result = await work(inPgTransaction(client, host));
    await run(client, host, "commit");
    return result;
  } catch (error) {
    await run(client, host, "rollback").catch((cause: unknown) => {
      failure = cause as Error;
    });
    throw error;
  } finally {
    client.removeListener("error", onError);
    client.release(failure);
  }
}

const RECONNECT = { baseMs: 50, capMs: 2_000, jitter: 0.5 };

async function listen(
  pool: PgPool,
  host: string,
  channels: readonly [string, ...string[]],
  onPayload: (payload: string, channel: string) => void,
  { signal, onListening }: ListenOptions,
): Promise<Listening> {
  const first = await listenOnce(pool, host, channels, onPayload, signal);
  onListening?.();
  return { ended: keepListening(first) };

  async function keepListening(ear: Ear): Promise<void> {
    await ear.gone;
    for (let failures = 0; !signal.aborted; failures += 1) {
      await pause(backoffDelay(RECONNECT, failures, Math.random()), signal);
      if (signal.aborted) return;
      const next = await listenOnce(pool, host, channels, onPayload, signal).catch(() => undefined);
      if (!next) continue;
      onListening?.();
      return keepListening(next);
    }
  }
}

/** A client that listens. */
interface Ear {
  /** Settles when the client is gone. */
  readonly gone: Promise<void>;
}

async function listenOnce(
  pool: PgPool,
  host: string,
  channels: readonly [string, ...string[]],
  onPayload: (payload: string, channel: string) => void,
  signal: AbortSignal,
): Promise<Ear> {
  signal.throwIfAborted();
  const client = await checkOut(pool, host);
  const own = seeOwnNotification(signal);
  let leave: () => void = () => undefined;
  const gone = new Promise<void>((resolve) => {
    leave = resolve;
  });
  client.on("error", () => leave());
  client.on("end", () => leave());
  signal.addEventListener("abort", leave, { once: true });
  client.on("notification", ({ payload = "", channel }) => {
    if (!own.takes(payload)) onPayload(payload, channel);
  });
  void gone.then(() => {
    signal.removeEventListener("abort", leave);
    // Destroyed, not handed back: the next user of the pool must not inherit a LISTEN.
    client.release(true);
  });
  try {
    for (const channel of channels) {
      await run(client, host, `listen "${channel.replaceAll('"', '""')}"`);
    }
    await own.probe((payload, patience) =>
      run(pool, host, "select pg_notify($1::text, $2::text)", [channels[0], payload], {
        signal: patience,
      }),
    );
    return { gone };
  } catch (error) {
    leave();
    throw error;
  }
}
