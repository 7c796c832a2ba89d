import { DatabaseTimeoutError, DatabaseUnreachableError } from "../core/database-errors.ts";
import { raceSignal } from "../core/signals.ts";
import {
  notReplicated,
  OWN_TRANSACTION,
  type Source,
  sessionOf,
  type Watch,
} from "./one-connection.ts";
import type { PgClient, PgConnection } from "./pg-connection.ts";
import type { SqlTransaction, TransactionOptions } from "./sql.ts";
import { isConnectionUseless } from "./sqlstate.ts";

/** How long BEGIN and COMMIT may take. */
const STEP_MS = 15_000;

/** Runs `work` in a transaction of node-postgres. */
export async function pgTransaction<T>(
  source: Source<PgConnection>,
  watch: Watch,
  work: (tx: SqlTransaction) => Promise<T>,
  { signal }: TransactionOptions = {},
): Promise<T> {
  const connection = await source.acquire(signal);
  const { host, client } = connection;
  const over = new AbortController();
  connection.onLoss((error) => over.abort(error));
  const onAbort = (): void => connection.end(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  let isCommitting = false;
  /** What `work` still sends then would be done outside of the transaction. */
  let isOver = false;
  const refuseWhenOver = (): void => {
    if (isOver) throw new DatabaseUnreachableError(host, "this transaction is over");
  };
  /** Ends with the connection, whatever becomes of what is awaited. */
  const unlessLost = <A>(awaited: Promise<A>): Promise<A> => raceSignal(awaited, over.signal);
  const step = async (
    text: string,
    late: () => Error,
  ): Promise<Awaited<ReturnType<PgConnection["run"]>>> => {
    const timer = setTimeout(() => connection.end(late()), STEP_MS);
    try {
      return await unlessLost(connection.run(text));
    } finally {
      clearTimeout(timer);
    }
  };
  try {
    if (signal?.aborted) onAbort();
    const rows = await step(
      `begin; ${OWN_TRANSACTION}`,
      () => new DatabaseUnreachableError(host, "no transaction was begun"),
    );
    connection.session = sessionOf(rows[0]);
    watch.add(connection);
    const result = await unlessLost(
      work({
        async query(text, params, options) {
          refuseWhenOver();
          const statement = connection.run(text, params, options?.prepare);
          return raceSignal(statement, options?.signal).catch((error: unknown) => {
            // Nothing can be sent behind a statement that is not waited for any more.
            if (options?.signal?.aborted && error === options.signal.reason) connection.end(error);
            throw error;
          });
        },
        driver: guarded(client, refuseWhenOver),
      }),
    ).finally(() => {
      isOver = true;
    });
    isCommitting = true;
    await step("commit", () => new DatabaseTimeoutError(STEP_MS));
    if (connection.takeWarning()) throw notReplicated();
    return result;
  } catch (error) {
    if (connection.isLost || isConnectionUseless(error)) {
      connection.end();
      watch.bury(connection);
      const isUnknown = isCommitting && error instanceof DatabaseUnreachableError;
      throw isUnknown
        ? new DatabaseTimeoutError(null, "The connection broke during COMMIT", { cause: error })
        : error;
    }
    const rolledBack = step("rollback", () => new DatabaseTimeoutError(STEP_MS));
    await rolledBack.catch(() => connection.end());
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    watch.remove(connection);
    connection.session = undefined;
    source.release(connection);
  }
}

/** The driver's own client, by which nothing is sent any more once the transaction is over. */
function guarded(client: PgClient, refuseWhenOver: () => void): PgClient {
  return new Proxy(client, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (typeof value !== "function") return value;
      if (key === "query") refuseWhenOver();
      return value.bind(target);
    },
  });
}
