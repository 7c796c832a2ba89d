import { raceSignal } from "../core/signals.ts";
import type { QueryOptions, SqlParam, SqlRow } from "./sql.ts";

/** The part of postgres.js that is used here; its `sql` and its transactions both have it. */
export interface PostgresJsHandle {
  unsafe(
    text: string,
    params?: SqlParam[],
    options?: { prepare?: boolean },
  ): PromiseLike<readonly SqlRow[]> & { readonly state?: unknown };
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
    readonly max?: unknown;
  };
}

/** After its caller gave up, a statement has this long to end before its connection counts as dead. */
const HUNG_MS = 3_000;

/** Runs a statement. `onHung` is told of one that was sent, that nobody waits for any more, and that does not end. */
export async function runStatement(
  handle: PostgresJsHandle,
  text: string,
  params: readonly SqlParam[] = [],
  { signal, prepare = false }: QueryOptions = {},
  onHung?: () => void,
): Promise<readonly SqlRow[]> {
  signal?.throwIfAborted();
  // Without parameters postgres.js uses the simple protocol, which allows several statements.
  // Its own way to cancel is not used: when that fails, the rejection has no owner and ends the process.
  const statement = handle.unsafe(text, [...params], { prepare });
  const answer = Promise.resolve(statement);
  try {
    return await raceSignal(answer, signal);
  } catch (error) {
    if (onHung && signal?.aborted && error === signal.reason) {
      const timer = setTimeout(() => {
        // Without a state it still waits for a connection: the pool is busy, not dead.
        if (statement.state) onHung();
      }, HUNG_MS);
      answer.catch(() => undefined).finally(() => clearTimeout(timer));
    }
    throw error;
  }
}
