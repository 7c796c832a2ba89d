import { raceSignal } from "../core/signals.ts";
import type { QueryOptions, SqlParam, SqlRow } from "./sql.ts";

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
    readonly max?: unknown;
  };
}

/** postgres.js' own types know more of its clients than is used here. */
export function asHandle(client: unknown): PostgresJsClient {
  return client as PostgresJsClient;
}

export async function runStatement(
  handle: PostgresJsHandle,
  text: string,
  params: readonly SqlParam[] = [],
  { signal, prepare = false }: QueryOptions = {},
): Promise<readonly SqlRow[]> {
  signal?.throwIfAborted();
  // Without parameters postgres.js uses the simple protocol, which allows several statements.
  // Its own way to cancel is not used: when that fails, the rejection has no owner and ends the process.
  const statement = handle.unsafe(text, [...params], { prepare });
  return raceSignal(Promise.resolve(statement), signal);
}
