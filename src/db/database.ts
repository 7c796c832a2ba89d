import { systemClock } from "../core/clock.ts";
import { DatabaseUnreachableError } from "../core/database-errors.ts";
import { setDeadline } from "../core/signals.ts";
import { CheckedSource, LastLoss } from "./checked-source.ts";
import type { Connection, ConnectionSettings } from "./connection.ts";
import { ConnectionPool } from "./connection-pool.ts";
import { keepListening } from "./keep-listening.ts";
import { notReplicated, OWN_TRANSACTION, runOnOne, sessionOf } from "./one-connection.ts";
import { openEar } from "./open-ear.ts";
import { openPrimary } from "./open-primary.ts";
import { asHandle } from "./postgres-js-statement.ts";
import { beginTransaction } from "./postgres-js-transaction.ts";
import { LOOK_MS, SilenceWatch } from "./silence.ts";
import type { Listening, ListenOptions, Sql, SqlRow, SqlTransaction } from "./sql.ts";
import { isConnectionUseless } from "./sqlstate.ts";

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
/** A session that can't be asked after has as long to show itself as others have until they are found lost. */
const UNKNOWN_LOOKS = 3;

export function openDatabase({
  settings,
  max,
  maxTransactions,
  lookMs = LOOK_MS,
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
  const own = new Set<ConnectionPool<Connection>>();
  const lastLoss = new LastLoss();
  const forStatements = new CheckedSource(statements, lastLoss);
  const forTransactions = new CheckedSource(transactions, lastLoss);
  return {
    query: (text, params, options) => runOnOne(forStatements, watch, text, params, options),
    async transaction(work, { signal } = {}) {
      const connection = await forTransactions.acquire(signal);
      const { client, host } = connection;
      let isClean = false;
      let forgetUnknown: (() => void) | undefined;
      watch.add(connection);
      connection.takeWarning();
      try {
        const options = { signal, own: connection };
        const answer = await beginTransaction(asHandle(client), host, begin, options);
        isClean = true;
        if (connection.takeWarning()) throw notReplicated();
        return answer;
      } catch (error) {
        if (isConnectionUseless(error)) connection.end();
        throw error;
      } finally {
        forgetUnknown?.();
        watch.remove(connection);
        if (connection.isLost && !isClean) watch.bury(connection);
        if (settings.isPooled) connection.session = undefined;
        forTransactions.release(connection);
      }

      function begin(tx: SqlTransaction): ReturnType<typeof work> {
        if (settings.isPooled) void askForSession(tx);
        return work(tx);
      }

      /**
       * Sent together with what comes next. Until it is answered nobody can ask after this transaction, so that has an end; so has a
       * transaction in which it failed, of which nothing can come any more.
       */
      async function askForSession(tx: SqlTransaction): Promise<void> {
        const silent = new DatabaseUnreachableError(host, "no answer in time");
        forgetUnknown = setDeadline(
          () => connection.end(silent),
          lookMs * UNKNOWN_LOOKS,
          systemClock,
        );
        await tx.query(OWN_TRANSACTION).then(know, () => undefined);
      }

      function know([row]: readonly SqlRow[]): void {
        forgetUnknown?.();
        connection.session = sessionOf(row);
        watch.add(connection);
      }
    },
    dedicated() {
      const one = new ConnectionPool({ max: 3, open });
      const source = new CheckedSource(one, lastLoss);
      own.add(one);
      return {
        query: (text, params, options) => runOnOne(source, watch, text, params, options),
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
              runOnOne(forStatements, watch, NOTIFY, [channel, payload], { signal: patience }),
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
