// Where a peer keeps its jobs: the server that a cell gets a fresh piece of.

export interface Store {
  /** Name and version, for the report. */
  readonly version: string;
  /** Makes an empty database and answers its URL. */
  fresh(name: string): Promise<string>;
  /** Drops it again, so that nothing of it disturbs later cells. */
  drop(url: string): Promise<void>;
  /** Rows of a query, for what only the database knows. Empty where there is no SQL. */
  look(url: string, text: string): Promise<readonly Record<string, unknown>[]>;
  /** Holds a repeatable-read snapshot until it is called again. */
  holdSnapshot(url: string): Promise<() => Promise<void>>;
  /** CPU seconds of the server with all its processes so far. */
  cpuSeconds(): number;
  /** Bytes written to the log so far: WAL, or the append-only file. */
  logBytes(): Promise<number>;
  stop(): Promise<void>;
}
