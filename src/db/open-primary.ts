import { DatabaseCredentialsError, DatabaseUnreachableError } from "../core/database-errors.ts";
import type { Server } from "./address.ts";
import { Connection, type ConnectionSettings } from "./connection.ts";

/** The next server is tried when the one before has said nothing for this long. */
const STAGGER_MS = 250;

/**
 * Connects to the server of an address that takes writes. Of several all are tried, each some time after the one before or as soon as
 * that has failed, and the first primary wins: so a server that is gone without a word costs little.
 */
export async function openPrimary(
  settings: ConnectionSettings,
  signal: AbortSignal | undefined,
): Promise<Connection> {
  const { servers, host } = settings.address;
  if (servers.length === 1) return Connection.open(settings, servers[0], signal);
  const over = new AbortController();
  const onAbort = (): void => over.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
  try {
    return await firstOf(servers, (server) => Connection.open(settings, server, over.signal));
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    const reasons = (error as AggregateError).errors as readonly unknown[];
    const refused = reasons.find((reason) => reason instanceof DatabaseCredentialsError);
    if (refused) throw refused;
    const told = reasons.map((reason) =>
      reason instanceof Error ? reason.message : String(reason),
    );
    throw new DatabaseUnreachableError(host, `no server there takes writes (${told.join("; ")})`, {
      cause: error,
    });
  } finally {
    signal?.removeEventListener("abort", onAbort);
    over.abort(new DatabaseUnreachableError(host, "another server was sooner"));
  }
}

/** The first connection that is made; others that come later are ended. Rejects with an AggregateError of all that failed. */
function firstOf(
  servers: readonly Server[],
  open: (server: Server) => Promise<Connection>,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const waiting = [...servers];
    const errors: unknown[] = [];
    let winner: Connection | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const next = (): void => {
      clearTimeout(timer);
      const server = winner ? undefined : waiting.shift();
      if (!server) return;
      if (waiting.length > 0) timer = setTimeout(next, STAGGER_MS);
      open(server).then(
        (connection) => {
          clearTimeout(timer);
          if (winner) return connection.end();
          winner = connection;
          resolve(connection);
        },
        (error: unknown) => {
          errors.push(error);
          if (errors.length === servers.length) reject(new AggregateError(errors));
          else next();
        },
      );
    };
    next();
  });
}
