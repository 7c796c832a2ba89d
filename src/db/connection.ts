import postgres from "postgres";
import { DatabaseUnreachableError } from "../core/database-errors.ts";
import { deadline, raceSignal } from "../core/signals.ts";
import { type Address, placeOf, type Server } from "./address.ts";
import type { Pooled } from "./connection-pool.ts";
import {
  type OneConnection,
  OWN_SESSION,
  ReplicationWarning,
  type Session,
  sessionOf,
} from "./one-connection.ts";
import { type OwnSocket, ownSocket, type TlsOptions } from "./socket.ts";
import type { SqlParam, SqlRow } from "./sql.ts";
import { translateError } from "./sqlstate.ts";

/** How connections of one address are made. */
export interface ConnectionSettings {
  readonly address: Address;
  /** Options of postgres.js beyond where and who. */
  readonly driver: postgres.Options<Record<string, never>>;
  /** All options of another client, as it keeps them: its connections are copied, whatever the address says. */
  readonly inherited?: Readonly<Record<string, unknown>>;
  readonly tls: TlsOptions;
  readonly connectTimeoutMs: number;
  /** A pooler in transaction mode stands between: sessions of the server are not ours. */
  readonly isPooled: boolean;
}

/** What a connection asks first: whether this server takes writes, and by which of its processes it serves us. */
const OPENING = `
  select pg_catalog.pg_is_in_recovery()::text as standby, own.* from (${OWN_SESSION}) as own`;

const LIFE_MS = 30 * 60_000;

/**
 * One connection of postgres.js, in a client of its own that is left when the connection ends. A client that connects anew brings along
 * what the old connection left behind (errors, half-written bytes), and that is where it hangs, or fails what was never sent.
 */
export class Connection implements OneConnection, Pooled {
  readonly client: postgres.Sql;
  readonly server: Server;
  /** The server's process; behind a pooler undefined, and set by whoever begins a transaction for as long as that takes. */
  session: Session | undefined;
  /** Local time after which it is not used again, so that servers that were added behind an address get their share. */
  readonly agesAt: number;
  /** Local time at which it was last given back. */
  idleSince: number = performance.now();
  /** Local time since when an answer is awaited; undefined while none is. */
  waitingSince: number | undefined;
  readonly #socket: OwnSocket | undefined;
  readonly #loss: Loss;
  readonly #warning: ReplicationWarning;

  private constructor(
    parts: Pick<Connection, "client" | "server"> & Hidden,
    session: Session | undefined,
  ) {
    this.client = parts.client;
    this.server = parts.server;
    this.#socket = parts.socket;
    this.#loss = parts.loss;
    this.#warning = parts.warning;
    this.session = session;
    this.agesAt = performance.now() + LIFE_MS * (1 + Math.random());
  }

  /** Rejects with DatabaseUnreachableError, StandbyError, or what the server says. */
  static async open(
    settings: ConnectionSettings,
    server: Server,
    signal: AbortSignal | undefined,
  ): Promise<Connection> {
    const { address, driver, inherited, tls, connectTimeoutMs, isPooled } = settings;
    const host = placeOf(server);
    const loss = new Loss();
    const warning = new ReplicationWarning();
    const onClose = (): void =>
      loss.happen(new DatabaseUnreachableError(host, "the connection broke"));
    const { tls: mode, isTlsDirect } = address;
    const socket = inherited?.["ssl"]
      ? undefined
      : ownSocket({ server, tls: mode, isTlsDirect, tlsOptions: tls }, onClose);
    const client = postgres({
      ...(inherited
        ? copyOf(inherited, server)
        : { ...driver, ...addressOptions(address, server, tls) }),
      max: 1,
      // Neither ends a connection while we think that it is there.
      idle_timeout: 0,
      max_lifetime: 0,
      onnotice: (notice) => warning.hear(notice),
      ...(socket
        ? { ssl: false, connect_timeout: 0, socket: socket.make as never }
        : { connect_timeout: Math.ceil(connectTimeoutMs / 1_000), onclose: onClose }),
    });
    const parts = { client, server, socket, loss, warning };
    const patience = deadline(
      connectTimeoutMs,
      () => new DatabaseUnreachableError(host, "no answer in time"),
      signal,
    );
    try {
      const opening = Promise.race([Promise.resolve(client.unsafe(OPENING)), loss.promise]);
      const [row] = await raceSignal(opening, patience.signal);
      if (address.saysPrimary && row?.["standby"] === "true") throw new StandbyError(host);
      return new Connection(parts, isPooled ? undefined : sessionOf(row));
    } catch (error) {
      end(client, socket, loss, new DatabaseUnreachableError(host, "the connection was not made"));
      throw translateError(error, host);
    } finally {
      patience.release();
    }
  }

  get host(): string {
    return placeOf(this.server);
  }

  get isLost(): boolean {
    return this.#loss.error !== undefined;
  }

  /** For how long an answer is awaited of which nothing has come, in ms; 0 while none is. */
  get silentMs(): number {
    const since = Math.min(
      this.waitingSince ?? Infinity,
      this.#socket?.unansweredSince ?? Infinity,
    );
    return since === Infinity ? 0 : performance.now() - since;
  }

  /** Calls back when the connection is lost; the answer takes that back. */
  onLoss(callback: (error: unknown) => void): () => void {
    return this.#loss.subscribe(callback);
  }

  /** Whether a commit since the last look was told to be on one server only. */
  takeWarning(): boolean {
    return this.#warning.take();
  }

  /** Runs one statement; nothing else may be under way. Rejects with the driver's error, or as the connection's loss says. */
  run(text: string, params: readonly SqlParam[], prepare: boolean): Promise<readonly SqlRow[]> {
    if (this.#loss.error !== undefined) return Promise.reject(this.#loss.error);
    this.waitingSince = performance.now();
    this.#warning.take();
    // Without parameters postgres.js uses the simple protocol, which allows several statements.
    const statement = this.client.unsafe(text, [...params], { prepare });
    return new Promise((resolve, reject) => {
      const forget = this.#loss.subscribe(reject);
      const done = (): void => {
        this.waitingSince = undefined;
        forget();
      };
      statement.then(
        (rows) => {
          done();
          resolve(rows);
        },
        (error: unknown) => {
          done();
          reject(error);
        },
      );
    });
  }

  /** Ends it at once, whatever is under way on it. */
  end(
    error: unknown = new DatabaseUnreachableError(this.host, "the connection was given up"),
  ): void {
    end(this.client, this.#socket, this.#loss, error);
  }
}

/** What a connection keeps to itself. */
interface Hidden {
  readonly socket: OwnSocket | undefined;
  readonly loss: Loss;
  readonly warning: ReplicationWarning;
}

/** This server is a standby, and the primary is wanted. */
class StandbyError extends DatabaseUnreachableError {
  constructor(host: string) {
    super(host, "it is a standby, which takes no writes", {
      hint: "Name the primary too, or wait until this server is promoted.",
    });
  }
}

/** The end of a connection: known once, told to all who want to know. */
class Loss {
  error: unknown;
  readonly #callbacks = new Set<(error: unknown) => void>();

  get promise(): Promise<never> {
    return new Promise((_, reject) => this.subscribe(reject));
  }

  subscribe(callback: (error: unknown) => void): () => void {
    if (this.error !== undefined) callback(this.error);
    else this.#callbacks.add(callback);
    return () => this.#callbacks.delete(callback);
  }

  happen(error: unknown): void {
    if (this.error !== undefined) return;
    this.error = error;
    for (const callback of this.#callbacks) callback(error);
    this.#callbacks.clear();
  }
}

function end(
  client: postgres.Sql,
  socket: OwnSocket | undefined,
  loss: Loss,
  error: unknown,
): void {
  loss.happen(error);
  void client
    .end({ timeout: 0 })
    .catch(() => undefined)
    .finally(() => socket?.destroy());
}

function addressOptions(
  { user, password, database, settings, tls }: Address,
  { host, port }: Server,
  { ca, cert, key, passphrase, servername, rejectUnauthorized }: TlsOptions,
): postgres.Options<Record<string, never>> {
  const custom = { ca, cert, key, passphrase, servername, rejectUnauthorized };
  const given = Object.fromEntries(
    Object.entries(custom).filter(([, value]) => value !== undefined),
  );
  const isVerified = tls === "verify-full" || tls === "verify-ca" || ca !== undefined;
  return {
    host: [host] as never,
    port: [port] as never,
    ...(host.startsWith("/") && { path: `${host}/.s.PGSQL.${port}` }),
    ...(user !== undefined && { user }),
    ...(password !== undefined && { password }),
    ...(database !== undefined && { database }),
    ssl:
      tls === "disable"
        ? false
        : tls === "prefer"
          ? "prefer"
          : { rejectUnauthorized: isVerified, ...given },
    connection: settings,
  };
}

/** postgres.js takes the options of a client as they are when it finds what its clients share among them. */
function copyOf(inherited: Readonly<Record<string, unknown>>, { host, port }: Server): object {
  return {
    ...inherited,
    host: [host],
    port: [port],
    parameters: {},
    shared: { retries: 0, typeArrayMap: {} },
    fetch_types: false,
    onnotify: undefined,
    onparameter: undefined,
    target_session_attrs: null,
  };
}
