import { raceSignal } from "../core/signals.ts";
import { seeOwnNotification } from "./listen-probe.ts";
import type { QueryOptions, Sql, SqlParam, SqlRow, SqlTransaction } from "./sql.ts";
import { translateError } from "./sqlstate.ts";

/** The part of postgres.js that is used here; its `sql` and its transactions both have it. */
export interface PostgresJsHandle {
  unsafe(
    text: string,
    params?: SqlParam[],
    options?: { prepare?: boolean },
  ): PromiseLike<readonly SqlRow[]>;
}

export interface PostgresJsClient extends PostgresJsHandle {
  begin<T>(work: (tx: PostgresJsHandle) => Promise<T>): Promise<T>;
  listen(
    channel: string,
    onPayload: (payload: string) => void,
    onListening?: () => void,
  ): PromiseLike<{ unlisten(): Promise<unknown> }>;
  readonly options: {
    readonly host: readonly string[];
    readonly port: readonly number[];
    readonly path?: unknown;
    readonly prepare?: unknown;
  };
}

/**
 * Makes an existing postgres.js client usable here; whoever made the client closes it.
 *
 * `onHung` is told of a statement that nobody waits for any more and that does not end.
 */
export function fromPostgresJs(client: PostgresJsClient, onHung?: () => void): Sql {
  const host = hostOf(client);
  return {
    query: (text, params, options) => run(client, host, text, params, options, onHung),
    async transaction(work) {
      try {
        return await client.begin((tx) => work(inPostgresJsTransaction(tx, host)));
      } catch (error) {
        throw translateError(error, host);
      }
    },
    listen: (channel, onPayload, options) => listen(client, host, channel, onPayload, options),
    close: () => Promise.resolve(),
  };
}

/** Makes an open postgres.js transaction usable here. */
export function inPostgresJsTransaction(
  tx: PostgresJsHandle,
  host = "the database",
): SqlTransaction {
  return {
    query: (text, params, options) => run(tx, host, text, params, options),
    driver: tx,
  };
}

function hostOf(client: PostgresJsClient): string {
  const { host, port, path } = client.options;
  return typeof path === "string" ? path : `${host[0] ?? "?"}:${port[0] ?? "?"}`;
}

/** After its caller gave up, a statement has this long to end before its connection counts as dead. */
const HUNG_MS = 3_000;

async function run(
  handle: PostgresJsHandle,
  host: string,
  text: string,
  params: readonly SqlParam[] = [],
  { signal, prepare = false }: QueryOptions = {},
  onHung?: () => void,
): Promise<readonly SqlRow[]> {
  signal?.throwIfAborted();
  // Without parameters postgres.js uses the simple protocol, which allows several statements.
  // Its own way to cancel is not used: when that fails, the rejection has no owner and ends the process.
  const answer = Promise.resolve(handle.unsafe(text, [...params], { prepare }));
  try {
    return await raceSignal(answer, signal);
  } catch (error) {
    if (!signal?.aborted || error !== signal.reason) throw translateError(error, host);
    if (onHung) {
      const timer = setTimeout(onHung, HUNG_MS);
      answer.catch(() => undefined).finally(() => clearTimeout(timer));
    }
    throw error;
  }
}

async function listen(
  client: PostgresJsClient,
  host: string,
  channel: string,
  onPayload: (payload: string) => void,
  { signal, onListening }: { signal: AbortSignal; onListening?: () => void },
): Promise<void> {
  signal.throwIfAborted();
  const own = seeOwnNotification(signal);
  const listening = Promise.resolve(
    client.listen(
      channel,
      (payload) => {
        if (!own.offer(payload)) onPayload(payload);
      },
      // postgres.js calls this after each reconnection too; the first time the probe is still on its way.
      () => {
        if (own.isSeen()) onListening?.();
      },
    ),
  );
  const stop = (): void => {
    listening.then(({ unlisten }) => unlisten()).catch(() => undefined);
  };
  try {
    await raceSignal(listening, signal);
    await own.probe((payload) =>
      run(client, host, "select pg_notify($1::text, $2::text)", [channel, payload], { signal }),
    );
    signal.addEventListener("abort", stop, { once: true });
    onListening?.();
  } catch (error) {
    stop();
    throw translateError(error, host);
  }
}
