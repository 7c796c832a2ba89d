import postgres from "postgres";
import { wholeNumber } from "../core/check-options.ts";
import { deadline, raceSignal } from "../core/signals.ts";
import { parseAddress } from "./address.ts";
import { hostOf, listen, type PostgresJsClient, query } from "./postgres-js-handle.ts";
import type { Sql } from "./sql.ts";
import { TransactionClients } from "./transaction-clients.ts";

export { isDriverFault } from "./driver-fault.ts";
export { fromPostgresJs } from "./postgres-js-handle.ts";

export interface ConnectOptions {
  /** The most connections for single statements; they are opened when needed. LISTEN takes one more. @default 3 */
  readonly max?: number;
  /** The most transactions at a time, each on a connection of its own; further ones wait. @default 5 */
  readonly maxTransactions?: number;
  /**
   * Whether a pooler in transaction mode (PgBouncer, Supavisor) stands between. Then statements are not prepared and LISTEN is not
   * tried. @default true for port 6543 and for `?pgbouncer=true`
   */
  readonly pooled?: boolean;
  /** A direct address for LISTEN when `url` leads through a pooler. @default none */
  readonly listenUrl?: string;
  /** How the connections call themselves in pg_stat_activity. @default "millrace" */
  readonly applicationName?: string;
  /** How long a connection may take to be made. @default 10_000 */
  readonly connectTimeoutMs?: number;
}

/** postgres.js knows `max_pipeline`, its types don't. */
type Settings = postgres.Options<Record<string, never>> & { readonly max_pipeline?: number };

/** How long statements may take to end before their connection is closed. */
const END_SECONDS = 5;
/** The same for a client that was replaced. */
const RETIRED_MS = 60_000;

/**
 * Connects to Postgres by its URL with postgres.js, on Node, Deno and Bun. Connections are made when first needed, so a wrong
 * address shows at the first statement. Throws InvalidOptionError for a URL that is none.
 */
export function connect(url: string, options: ConnectOptions = {}): Sql {
  const address = parseAddress(url);
  const pooled = options.pooled ?? address.looksPooled;
  const listenUrl = options.listenUrl ?? (pooled ? undefined : url);
  const settings = toSettings(options, pooled);
  const host = address.host;
  const limit = wholeNumber("maxTransactions", options.maxTransactions ?? 5, 1, 1_000);
  const transactions = new TransactionClients(limit, host, (onClose) =>
    open(address.url, { ...settings, max: 1, idle_timeout: 30, onclose: onClose }),
  );
  const openNext = (): postgres.Sql => {
    // One statement at a time on a connection. A pooler in transaction mode (PgBouncer before 1.21) hands the server on between two of
    // them, with the second one's half-sent question: its answer goes to somebody else. And without a pooler it waits for the first one's
    // locks. Not for transactions, whose connections are their own: postgres.js can't begin one so.
    const next = open(address.url, {
      ...settings,
      max_pipeline: 0,
      onclose: () => replace(next),
    });
    return next;
  };
  let isClosed = false;
  let client = openNext();

  // A link that went silent keeps its connection busy for as long as the kernel has patience. One that broke leaves its error behind,
  // and what it was about to write: postgres.js (3.4) connects anew with both, and then the connection is of no use. So the
  // whole client is left with its connections, and a new one takes its place.
  const retired = new Set<postgres.Sql>();
  function replace(left: postgres.Sql): void {
    if (isClosed || client !== left) return;
    client = openNext();
    retired.add(left);
    // Its other statements may be well. Ended before they are, it would drop those that still wait for a connection.
    const patience = deadline(RETIRED_MS, () => undefined);
    raceSignal(Promise.all(underWay), patience.signal)
      .catch(() => undefined)
      .then(() => left.end({ timeout: 0 }))
      .catch(() => undefined)
      .finally(() => {
        patience.release();
        retired.delete(left);
      });
  }

  const underWay = new Set<Promise<unknown>>();
  function track<T>(work: Promise<T>): Promise<T> {
    const done = (): void => void underWay.delete(tracked);
    const tracked = work.then(done, done);
    underWay.add(tracked);
    return work;
  }

  return {
    query(text, params, queryOptions) {
      const asked = client;
      return track(query(asHandle(asked), host, text, params, queryOptions, () => replace(asked)));
    },
    transaction: (work) => track(transactions.run(work)),
    ...(listenUrl !== undefined && { listen: listenOn(parseAddress(listenUrl).url, settings) }),
    async close() {
      isClosed = true;
      const patience = deadline(END_SECONDS * 1_000, () => undefined);
      await raceSignal(Promise.all(underWay), patience.signal).catch(() => undefined);
      patience.release();
      // Not left to the driver: it would wait for connections that broke in the middle of a statement.
      const clients = [client, ...retired];
      await Promise.all([...clients.map((one) => one.end({ timeout: 0 })), transactions.close()]);
    },
  };
}

function open(url: string, settings: Settings): postgres.Sql {
  return postgres(url, settings);
}

function asHandle(client: postgres.Sql): PostgresJsClient {
  return client as unknown as PostgresJsClient;
}

/** LISTEN on a connection of its own, so that the others stay free of session state. */
function listenOn(url: string, settings: Settings): Required<Sql>["listen"] {
  return async (channels, onPayload, options) => {
    const client = open(url, { ...settings, max: 1 });
    const handle = asHandle(client);
    return listen(handle, hostOf(handle), channels, onPayload, options, () =>
      client.end({ timeout: 0 }),
    );
  };
}

function toSettings(
  { max = 3, applicationName = "millrace", connectTimeoutMs = 10_000 }: ConnectOptions,
  pooled: boolean,
): Settings {
  return {
    max: wholeNumber("max", max, 1, 1_000),
    prepare: !pooled,
    // We name every type ourselves; asking for the array types would cost a round trip on each connection.
    fetch_types: false,
    connect_timeout: Math.ceil(
      wholeNumber("connectTimeoutMs", connectTimeoutMs, 1, 600_000) / 1_000,
    ),
    connection: { application_name: applicationName },
    onnotice: () => undefined,
    // Short, because whoever retries has a backoff of its own. Seconds.
    backoff: (failures) => Math.min(0.05 * 2 ** failures, 1) * (0.5 + Math.random() / 2),
  };
}
