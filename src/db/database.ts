import { DatabaseTimeoutError } from "../core/database-errors.ts";
import { raceSignal } from "../core/signals.ts";
import type { Connection, ConnectionSettings } from "./connection.ts";
import { openEar } from "./connection-ear.ts";
import { ConnectionPool } from "./connection-pool.ts";
import { keepListening } from "./keep-listening.ts";
import { openPrimary } from "./open-primary.ts";
import { asHandle } from "./postgres-js-statement.ts";
import { beginTransaction } from "./postgres-js-transaction.ts";
import { SilenceWatch } from "./silence.ts";
import type { Listening, ListenOptions, QueryOptions, Sql, SqlParam, SqlRow } from "./sql.ts";
import { isConnectionGone, isConnectionUseless, translateError } from "./sqlstate.ts";

export interface DatabaseOptions {
  readonly settings: ConnectionSettings;
  readonly max: number;
  readonly maxTransactions: number;
  /** An answer that takes longer than this is asked after. @default 2_500 */
  readonly lookMs?: number;
}

/** The connections of one address. */
export interface Database {
  readonly query: Sql["query"];
  readonly transaction: Sql["transaction"];
  readonly dedicated: () => Sql;
  readonly listen: (
    settings: ConnectionSettings,
    ...args: Parameters<Required<Sql>["listen"]>
  ) => Promise<Listening>;
  /** Ends all connections, at once. */
  readonly close: () => void;
}

/** Who waits for a connection for this long gets one more: those in use may be silent. */
const OVERFLOW_MS = 1_000;
const TRANSACTION_IDLE_MS = 30_000;
/** A statement that nobody waits for any more has this long to end before its connection is ended. */
const GRACE_MS = 250;

export function openDatabase({
  settings,
  max,
  maxTransactions,
  lookMs,
}: DatabaseOptions): Database {
  const open = (signal: AbortSignal | undefined): Promise<Connection> =>
    openPrimary(settings, signal);
  const watch = new SilenceWatch(open, lookMs);
  const statements = new ConnectionPool({ max, open, overflowMs: OVERFLOW_MS });
  // Transactions have their own, so that they can't keep other statements waiting, however long they take.
  const transactions = new ConnectionPool({
    max: maxTransactions,
    open,
    idleMs: TRANSACTION_IDLE_MS,
  });
  const own = new Set<ConnectionPool>();
  return {
    query: (text, params, options) => query(statements, watch, text, params, options),
    async transaction(work, { signal } = {}) {
      const connection = await transactions.acquire(signal);
      watch.add(connection);
      const { host } = connection;
      let isClean = false;
      try {
        const answer = await beginTransaction(asHandle(connection.client), host, work, {
          signal,
          own: connection,
        });
        isClean = true;
        if (connection.takeWarning()) throw notReplicated();
        return answer;
      } catch (error) {
        if (isConnectionUseless(error)) connection.end();
        throw error;
      } finally {
        watch.remove(connection);
        if (connection.isLost && !isClean) watch.bury(connection);
        transactions.release(connection);
      }
    },
    dedicated() {
      const one = new ConnectionPool({ max: 1, open });
      own.add(one);
      return {
        query: (text, params, options) => query(one, watch, text, params, options),
        transaction: () => Promise.reject(new Error("a dedicated connection has no transactions")),
        async close() {
          own.delete(one);
          one.close();
        },
      };
    },
    listen(heardAt, channels, onPayload, options: ListenOptions) {
      const { signal } = options;
      const openListening = (onnotify: (channel: string, payload: string) => void) =>
        openPrimary({ ...heardAt, driver: { ...heardAt.driver, onnotify } as never }, signal);
      return keepListening(
        () =>
          openEar({
            open: openListening,
            notify: (channel, payload, patience) =>
              query(statements, watch, NOTIFY, [channel, payload], { signal: patience }),
            channels,
            onPayload,
            signal,
          }),
        options,
      );
    },
    close() {
      watch.close();
      for (const pool of [statements, transactions, ...own]) pool.close();
    },
  };
}

const NOTIFY = "select pg_notify($1::text, $2::text)";

async function query(
  pool: ConnectionPool,
  watch: SilenceWatch,
  text: string,
  params: readonly SqlParam[] = [],
  { signal, prepare = false }: QueryOptions = {},
): Promise<readonly SqlRow[]> {
  const connection = await pool.acquire(signal);
  if (signal?.aborted) {
    pool.release(connection);
    throw signal.reason;
  }
  watch.add(connection);
  const statement = connection.run(text, params, prepare);
  try {
    const rows = await raceSignal(statement, signal);
    if (connection.takeWarning()) throw notReplicated();
    leave(connection);
    return rows;
  } catch (error) {
    if (signal?.aborted && error === signal.reason) void giveUp(statement);
    else {
      if (isConnectionGone(error) || isConnectionUseless(error)) connection.end();
      leave(connection);
    }
    throw translateError(error, connection.host);
  }

  function leave(left: Connection): void {
    watch.remove(left);
    pool.release(left);
  }

  /** Nobody waits any more. If it does not end soon, the connection goes, and with it what the server still does. */
  async function giveUp(left: Promise<unknown>): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const grace = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), GRACE_MS);
    });
    const isOver = await Promise.race([left.then(ended, ended), grace]);
    clearTimeout(timer);
    if (!isOver) {
      connection.end();
      watch.bury(connection);
    }
    leave(connection);
  }
}

function ended(): boolean {
  return true;
}

/** Postgres answers so to a commit whose wait for a standby was broken off: it is done here, and may be lost with this server. */
function notReplicated(): DatabaseTimeoutError {
  return new DatabaseTimeoutError(
    null,
    "It was committed on one server, but no standby has confirmed it",
  );
}
