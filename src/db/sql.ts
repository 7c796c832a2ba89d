/** What a statement's `$1`, `$2` … may be. Arrays and JSON travel as text and are cast in the statement. */
export type SqlParam = string | number | boolean | null;

export type SqlRow = Readonly<Record<string, unknown>>;

export interface QueryOptions {
  /** Gives up waiting: the promise rejects with the signal's reason. The statement may still run to its end. */
  readonly signal?: AbortSignal | undefined;
  /** The statement is one of a fixed few, so preparing it pays. @default false */
  readonly prepare?: boolean;
}

/** All that the library needs of a Postgres driver. */
export interface Sql {
  /** Runs one statement; several, separated by semicolons, if there are no parameters. */
  query(
    text: string,
    params?: readonly SqlParam[],
    options?: QueryOptions,
  ): Promise<readonly SqlRow[]>;

  /**
   * Runs `work` in a transaction: commits when it resolves, rolls back when it rejects. Rejects with DatabaseTimeoutError when nobody
   * knows whether it was committed.
   */
  transaction<T>(
    work: (tx: SqlTransaction) => Promise<T>,
    options?: TransactionOptions,
  ): Promise<T>;

  /**
   * Calls back for every NOTIFY on one of the channels until the signal aborts. Resolves when listening was seen to work, and
   * calls `onListening` then and after every reconnection: what was notified in between is lost.
   *
   * Throws ListenUnavailableError when notifications don't arrive, as behind a transaction-mode pooler.
   */
  listen?(
    channels: readonly [string, ...string[]],
    onPayload: (payload: string, channel: string) => void,
    options: ListenOptions,
  ): Promise<Listening>;

  /**
   * One connection beyond those that are shared, for what must not wait for them: it keeps leases alive while handlers use up all
   * others. Made when it is first used, again after it broke, and once more while it gives no answer. Whoever asks for it closes it.
   */
  dedicated?(): Sql;

  /** Closes the connections that this object opened itself. */
  close(): Promise<void>;
}

export interface TransactionOptions {
  /** Gives up: the promise rejects with the signal's reason, and the transaction is not committed, unless its COMMIT was sent. */
  readonly signal?: AbortSignal | undefined;
}

export interface ListenOptions {
  readonly signal: AbortSignal;
  readonly onListening?: () => void;
}

export interface Listening {
  /** Settles once the signal has aborted and the connection is let go of. Never rejects. */
  readonly ended: Promise<void>;
}

/** An open transaction. */
export interface SqlTransaction extends Pick<Sql, "query"> {
  /** The driver's own handle of this transaction, for queries in its style. */
  readonly driver: unknown;
}

/** Where statements can run: outside or inside of a transaction. */
export type Queryable = Pick<Sql, "query">;
