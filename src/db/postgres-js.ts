import postgres from "postgres";
import { wholeNumber } from "../core/check-options.ts";
import { deadline, raceSignal } from "../core/signals.ts";
import { parseAddress } from "./address.ts";
import { fromPostgresJs, type PostgresJsClient } from "./postgres-js-handle.ts";
import type { Sql } from "./sql.ts";

export { fromPostgresJs } from "./postgres-js-handle.ts";

export interface ConnectOptions {
  /** The most connections at a time; they are opened when needed. LISTEN takes one more. @default 5 */
  readonly max?: number;
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

/** How long statements may take to end before their connection is closed. */
const END_SECONDS = 5;

/**
 * Connects to Postgres by its URL with postgres.js, on Node, Deno and Bun. Connections are made when first needed, so a wrong
 * address shows at the first statement. Throws InvalidOptionError for a URL that is none.
 */
export function connect(url: string, options: ConnectOptions = {}): Sql {
  const address = parseAddress(url);
  const pooled = options.pooled ?? address.looksPooled;
  const listenUrl = options.listenUrl ?? (pooled ? undefined : url);
  const settings = toSettings(options, pooled);
  let client = postgres(address.url, settings);
  let current = adapt(client);

  // A link that went silent keeps its connection busy for as long as the kernel has patience. So the whole client is left
  // behind with its connections, and a new one takes its place.
  function adapt(opened: postgres.Sql): Sql {
    return fromPostgresJs(opened as unknown as PostgresJsClient, () => {
      if (client !== opened) return;
      client = postgres(address.url, settings);
      current = adapt(client);
      void opened.end({ timeout: END_SECONDS }).catch(() => undefined);
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
    query: (text, params, queryOptions) => track(current.query(text, params, queryOptions)),
    transaction: (work) => track(current.transaction(work)),
    ...(listenUrl !== undefined && { listen: listenOn(parseAddress(listenUrl).url, settings) }),
    async close() {
      const patience = deadline(END_SECONDS * 1_000, () => undefined);
      await raceSignal(Promise.all(underWay), patience.signal).catch(() => undefined);
      patience.release();
      // Not left to the driver: it would wait for connections that broke in the middle of a statement.
      await client.end({ timeout: 0 });
    },
  };
}

/** LISTEN on a connection of its own, so that the others stay free of session state. */
function listenOn(
  url: string,
  settings: postgres.Options<Record<string, never>>,
): Required<Sql>["listen"] {
  return async (channel, onPayload, options) => {
    const client = postgres(url, { ...settings, max: 1 });
    const end = (): void => void client.end({ timeout: 0 }).catch(() => undefined);
    options.signal.addEventListener("abort", end, { once: true });
    try {
      await fromPostgresJs(client as unknown as PostgresJsClient).listen?.(
        channel,
        onPayload,
        options,
      );
    } catch (error) {
      end();
      throw error;
    }
  };
}

function toSettings(
  { max = 5, applicationName = "millrace", connectTimeoutMs = 10_000 }: ConnectOptions,
  pooled: boolean,
): postgres.Options<Record<string, never>> {
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
