import { DatabaseUnreachableError } from "../core/database-errors.ts";
import { Limiter } from "../core/limiter.ts";
import { deadline, raceSignal, untilAborted } from "../core/signals.ts";
import { dedicatedLike } from "./dedicated-like.ts";
import { seeOwnNotification } from "./listen-probe.ts";
import {
  type PostgresJsClient,
  type PostgresJsHandle,
  runStatement,
} from "./postgres-js-statement.ts";
import { beginTransaction } from "./postgres-js-transaction.ts";
import type { Listening, ListenOptions, QueryOptions, Sql, SqlParam, SqlRow } from "./sql.ts";
import { translateError } from "./sqlstate.ts";

export type { PostgresJsClient, PostgresJsHandle } from "./postgres-js-statement.ts";

/** Connections of a client that transactions leave to the statements in between. */
const KEPT_FREE = 1;

/**
 * Makes an existing postgres.js client usable here; whoever made the client closes it. Give it at least two connections (`max`), so that
 * handlers' transactions can't keep the worker from its own statements. LISTEN and the extension of leases have one each beyond them,
 * with the same settings. Unlike what `connect` opens, such a client does not recover by itself from a network that swallows everything
 * without a word, and when a connection breaks it may fail one more statement than was lost, or never answer one.
 */
export function fromPostgresJs(client: PostgresJsClient): Sql {
  const host = hostOf(client);
  const { max } = client.options;
  const transactions = new Limiter(Math.max(1, (typeof max === "number" ? max : 10) - KEPT_FREE));
  return {
    query: (text, params, options) => query(client, host, text, params, options),
    transaction: (work, options) =>
      transactions.run(() => beginTransaction(client, host, work, options), options?.signal),
    listen: (channels, onPayload, options) => listen(client, host, channels, onPayload, options),
    dedicated: () => dedicatedLike(client.options),
    close: () => Promise.resolve(),
  };
}

function hostOf(client: PostgresJsClient): string {
  const { host, port, path } = client.options;
  return typeof path === "string" ? path : `${host[0] ?? "?"}:${port[0] ?? "?"}`;
}

/** The same as `runStatement`, with errors in our words. */
export async function query(
  handle: PostgresJsHandle,
  host: string,
  text: string,
  params?: readonly SqlParam[],
  options?: QueryOptions,
): Promise<readonly SqlRow[]> {
  try {
    return await runStatement(handle, text, params, options);
  } catch (error) {
    throw translateError(error, host);
  }
}

/** How long LISTEN may take, and its end. */
const LISTEN_MS = 15_000;
const LET_GO_MS = 3_000;
const NO_ANSWER = "no answer in time";

/** Listens with a client. */
async function listen(
  client: PostgresJsClient,
  host: string,
  channels: readonly [string, ...string[]],
  onPayload: (payload: string, channel: string) => void,
  { signal, onListening }: ListenOptions,
): Promise<Listening> {
  signal.throwIfAborted();
  const own = seeOwnNotification(signal);
  const hear = (payload: string, channel: string): void => {
    if (!own.takes(payload)) onPayload(payload, channel);
  };
  // postgres.js calls this after each reconnection too; the first time the probe is still on its way.
  const onListen = (): void => {
    if (own.isSeen()) onListening?.();
  };
  // All on one connection, which postgres.js keeps for LISTEN, and so one after the other: the last one tells for all.
  const last = channels.length - 1;
  const listening = Promise.all(
    channels.map((channel, at) =>
      Promise.resolve(
        client.listen(
          channel,
          (payload) => hear(payload, channel),
          at === last ? onListen : undefined,
        ),
      ),
    ),
  );
  // Only after LISTEN has come to something: postgres.js opens a connection that is under way although its client was ended.
  const letGo = async (): Promise<void> => {
    const patience = deadline(LET_GO_MS, () => undefined);
    const unlistening = listening.then((ears) => Promise.all(ears.map((ear) => ear.unlisten())));
    await raceSignal(unlistening, patience.signal).catch(() => undefined);
    patience.release();
  };
  const patience = deadline(LISTEN_MS, () => new DatabaseUnreachableError(host, NO_ANSWER), signal);
  try {
    await raceSignal(listening, patience.signal);
    patience.release();
    await own.probe((payload, patience) =>
      query(client, host, "select pg_notify($1::text, $2::text)", [channels[0], payload], {
        signal: patience,
      }),
    );
  } catch (error) {
    void letGo();
    throw translateError(error, host);
  } finally {
    patience.release();
  }
  onListening?.();
  return {
    ended: untilAborted(signal)
      .then(letGo)
      .then(() => undefined),
  };
}
