import { DatabaseTimeoutError } from "../core/database-errors.ts";
import { raceSignal } from "../core/signals.ts";
import type { QueryOptions, SqlParam, SqlRow } from "./sql.ts";
import { isConnectionGone, isConnectionUseless, translateError } from "./sqlstate.ts";

/** A server process that serves one of our connections, told from a later one with the same number. */
export interface Session {
  readonly pid: string;
  readonly since: string;
  /** When its transaction began. Given where a pooler may let somebody else go on in the same process afterwards. */
  readonly xact?: string;
}

/** The connection that asks for them is served by this session. Behind a pooler it holds for one transaction. */
export const OWN_SESSION = `
  select pid::text, extract(epoch from backend_start)::text as since
    from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())`;

/** The same of the transaction that asks. */
export const OWN_TRANSACTION = `
  select pid::text, extract(epoch from backend_start)::text as since, extract(epoch from xact_start)::text as xact
    from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())`;

export function sessionOf(row: SqlRow | undefined): Session | undefined {
  const [pid, since, xact] = [row?.["pid"], row?.["since"], row?.["xact"]];
  if (typeof pid !== "string" || typeof since !== "string") return undefined;
  return { pid, since, ...(typeof xact === "string" && { xact }) };
}

/** What can be watched for silence. */
export interface Watched {
  /** Undefined where it is not known; then nobody can ask after it. */
  readonly session: Session | undefined;
  /** For how long an answer is awaited of which nothing has come, in ms; 0 while none is. */
  readonly silentMs: number;
  /** Ends it at once, whatever is under way on it. */
  end(): void;
}

/** One connection of whatever driver. */
export interface OneConnection extends Watched {
  /** Host and port, fit for messages. */
  readonly host: string;
  readonly isLost: boolean;
  /** Runs one statement; nothing else may be under way. Rejects with the driver's error, or as the connection's loss says. */
  run(text: string, params: readonly SqlParam[], prepare: boolean): Promise<readonly SqlRow[]>;
  /** Whether a commit since the last look was told to be on one server only. */
  takeWarning(): boolean;
}

/** Who hands out connections, each to one at a time. */
export interface Source<C extends OneConnection> {
  acquire(signal: AbortSignal | undefined): Promise<C>;
  release(connection: C): void;
}

export interface Watch {
  add(connection: Watched): void;
  remove(connection: Watched): void;
  bury(connection: Watched): void;
}

/** A statement that nobody waits for any more has this long to end before its connection is ended. */
const GRACE_MS = 250;

/** Runs one statement on a connection of its own. One that is given up, or fails with its connection, ends that connection. */
export async function runOnOne<C extends OneConnection>(
  source: Source<C>,
  watch: Watch,
  text: string,
  params: readonly SqlParam[] = [],
  { signal, prepare = false }: QueryOptions = {},
): Promise<readonly SqlRow[]> {
  const connection = await source.acquire(signal);
  const leave = (): void => {
    watch.remove(connection);
    source.release(connection);
  };
  if (signal?.aborted) {
    leave();
    throw signal.reason;
  }
  watch.add(connection);
  const statement = connection.run(text, params, prepare);
  try {
    const rows = await raceSignal(statement, signal);
    leave();
    if (connection.takeWarning()) throw notReplicated();
    return rows;
  } catch (error) {
    if (signal?.aborted && error === signal.reason) void giveUp(statement);
    else {
      if (isConnectionGone(error) || isConnectionUseless(error)) connection.end();
      leave();
    }
    throw translateError(error, connection.host);
  }

  /** Nobody waits any more. If it does not end soon, the connection goes, and with it what the server still does. */
  async function giveUp(left: Promise<unknown>): Promise<void> {
    if (!(await endsWithin(left, GRACE_MS))) {
      connection.end();
      watch.bury(connection);
    }
    leave();
  }
}

function endsWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms);
    const onEnd = (): void => {
      clearTimeout(timer);
      resolve(true);
    };
    work.then(onEnd, onEnd);
  });
}

/** Postgres answers so to a commit whose wait for a standby was broken off: it is done here, and may be lost with this server. */
export function notReplicated(): DatabaseTimeoutError {
  const reason = "It was committed on one server, but no standby has confirmed it";
  return new DatabaseTimeoutError(null, reason);
}

/**
 * Postgres answers a commit whose wait for a standby was broken off with success and a warning. Its text depends on the server's
 * language, its origin does not.
 */
export class ReplicationWarning {
  #isRaised = false;

  hear(notice: object): void {
    if ("routine" in notice && notice.routine === "SyncRepWaitForLSN") this.#isRaised = true;
  }

  take(): boolean {
    const isRaised = this.#isRaised;
    this.#isRaised = false;
    return isRaised;
  }
}
