import type postgres from "postgres";
import { wholeNumber } from "../core/check-options.ts";
import { DatabaseTimeoutError } from "../core/database-errors.ts";
import { deadline, raceSignal } from "../core/signals.ts";
import { type Address, parseAddress } from "./address.ts";
import type { ConnectionSettings } from "./connection.ts";
import { type Database, openDatabase } from "./database.ts";
import type { TlsOptions } from "./socket.ts";
import type { Sql } from "./sql.ts";

export interface ConnectOptions {
  /**
   * The most connections for single statements; they are opened when needed. While those wait for an answer for longer than a second it
   * may be as many again. LISTEN takes one more, and so does a worker for its leases. @default 3
   */
  readonly max?: number;
  /** The most transactions at a time, each on a connection of its own; further ones wait. @default 5 */
  readonly maxTransactions?: number;
  /**
   * Whether a pooler in transaction mode (PgBouncer, Supavisor) stands between. Then statements are not prepared and LISTEN is not
   * tried. @default true for port 6543, for `?pgbouncer=true` and for Neon's pooler
   */
  readonly pooled?: boolean;
  /** A direct address for LISTEN when `url` leads through a pooler. @default none */
  readonly listenUrl?: string;
  /** How the connections call themselves in pg_stat_activity. @default what the URL says, else "millrace" */
  readonly applicationName?: string;
  /** How long a connection may take to be made. @default what the URL says (connect_timeout), else 10_000 */
  readonly connectTimeoutMs?: number;
  /** Certificates and keys as texts, beyond what `sslmode` in the URL says. */
  readonly tls?: TlsOptions;
}

export interface Tuning {
  /** An answer that takes longer than this is asked after. @default 2_500 */
  readonly lookMs?: number;
}

const CONNECT_MS = 10_000;
/** How long statements may take to end before their connection is closed. */
const END_MS = 5_000;

/**
 * Connects to Postgres by its URL with postgres.js, on Node, Deno and Bun. Connections are made when first needed, so a wrong
 * address shows at the first statement. An address with several hosts means the one of them that is the primary. Throws
 * InvalidOptionError for a URL that is none, or that asks for what cannot be had.
 */
export function connect(url: string, options: ConnectOptions = {}): Sql {
  return connectWith(url, options, {});
}

/** The same, with other times than users get. */
export function connectWith(url: string, options: ConnectOptions, { lookMs }: Tuning): Sql {
  const address = parseAddress(url);
  const isPooled = options.pooled ?? address.looksPooled;
  const heardAt =
    options.listenUrl === undefined ? undefined : parseAddress(options.listenUrl, "listenUrl");
  const database = openDatabase({
    settings: toSettings(address, isPooled, options),
    max: wholeNumber("max", options.max ?? 3, 1, 1_000),
    maxTransactions: wholeNumber("maxTransactions", options.maxTransactions ?? 5, 1, 1_000),
    ...(lookMs !== undefined && { lookMs }),
  });
  const listensAt = heardAt ?? (isPooled ? undefined : address);
  return toPort(database, listensAt && toSettings(listensAt, false, options));
}

function toPort(database: Database, listening: ConnectionSettings | undefined): Sql {
  const underWay = new Set<Promise<unknown>>();
  function track<T>(work: Promise<T>): Promise<T> {
    const done = (): void => void underWay.delete(tracked);
    const tracked = work.then(done, done);
    underWay.add(tracked);
    return work;
  }
  return {
    query: (text, params, options) => track(database.query(text, params, options)),
    transaction: (work, options) => track(database.transaction(work, options)),
    ...(listening && {
      listen: (channels, onPayload, options) =>
        database.listen(listening, channels, onPayload, options),
    }),
    dedicated: () => database.dedicated(),
    async close() {
      const patience = deadline(END_MS, () => new DatabaseTimeoutError(END_MS));
      await raceSignal(Promise.all(underWay), patience.signal).catch(() => undefined);
      patience.release();
      database.close();
    },
  };
}

function toSettings(
  address: Address,
  isPooled: boolean,
  { applicationName, connectTimeoutMs, tls = {} }: ConnectOptions,
): ConnectionSettings {
  const name = applicationName ?? address.settings["application_name"] ?? "millrace";
  return {
    address: { ...address, settings: { ...address.settings, application_name: name } },
    isPooled,
    tls,
    connectTimeoutMs: wholeNumber(
      "connectTimeoutMs",
      connectTimeoutMs ?? address.connectTimeoutMs ?? CONNECT_MS,
      1,
      600_000,
    ),
    driver: driverOptions(isPooled),
  };
}

function driverOptions(isPooled: boolean): postgres.Options<Record<string, never>> {
  return {
    prepare: !isPooled,
    // We name every type ourselves; asking for the array types would cost a round trip on each connection.
    fetch_types: false,
  };
}
