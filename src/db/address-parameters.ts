import { InvalidOptionError } from "../core/errors.ts";

/** How the connection is encrypted, in libpq's words. */
export type TlsMode = "disable" | "prefer" | "require" | "verify-ca" | "verify-full";

/** What the parameters of a connection string say. */
export interface AddressParameters {
  readonly tls: TlsMode;
  /** TLS begins at once, without asking the server first. */
  readonly isTlsDirect: boolean;
  /** Sent to the server when the session begins. */
  readonly settings: Readonly<Record<string, string>>;
  readonly connectTimeoutMs: number | undefined;
  /** It says that a pooler hands out connections, or that statements must not be prepared. */
  readonly saysPooled: boolean;
  readonly saysPrimary: boolean;
  /** `user`, `password`, `host` and so on, where they are given as parameters. */
  readonly places: Readonly<Partial<Record<Place, string>>>;
}

type Place = "user" | "password" | "database" | "host" | "port";

/** Other names of what can stand before the question mark too. */
const PLACES: Readonly<Record<string, Place>> = {
  user: "user",
  username: "user",
  password: "password",
  dbname: "database",
  database: "database",
  host: "host",
  hostaddr: "host",
  port: "port",
};

/** Settings that the server knows and takes from its clients. */
const SERVER_SETTINGS: ReadonlySet<string> = new Set([
  "application_name",
  "default_transaction_isolation",
  "idle_in_transaction_session_timeout",
  "idle_session_timeout",
  "jit",
  "lock_timeout",
  "options",
  "role",
  "search_path",
  "statement_timeout",
  "timezone",
  "transaction_timeout",
  "work_mem",
]);

/**
 * Meant for other programs, or without a meaning here: Prisma, node-postgres, JDBC, SQLAlchemy, Rails, pgx, hosting platforms, and what
 * libpq does that this library does in its own way (keepalives) or not at all (channel binding).
 */
const IGNORED: ReadonlySet<string> = new Set(
  `schema currentschema connection_limit pool_timeout socket_timeout max_connection_lifetime max_idle_connection_lifetime
  single_use_connections sslidentity supa workaround uselibpqcompat pool timeout reaping_frequency checkout_timeout encoding
  conn_max_age conn_health_checks command_timeout async_fallback max max_lifetime idle_timeout max_pipeline keep_alive backoff
  fetch_types query_timeout keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout tcpkeepalive
  sockettimeout rewritebatchedinserts binarytransfer assumeminserverversion stringtype loglevel logservererrordetail
  channel_binding channelbinding gssencmode gsslib gssdelegation krbsrvname sslcompression ssl_min_protocol_version
  ssl_max_protocol_version require_auth load_balance_hosts loadbalancehosts client_encoding sslsni requirepeer
  default_query_exec_mode sslrootcertmode`.split(/\s+/),
);

/** What is understood, but cannot be had, and what to do instead. */
const REFUSED: Readonly<Record<string, string>> = {
  sslcert: "pass the text of the file to connect() as `tls: { cert, key }`",
  sslkey: "pass the text of the file to connect() as `tls: { cert, key }`",
  sslpassword: "pass key and passphrase to connect() as `tls: { cert, key, passphrase }`",
  sslcrl: "leave it out: lists of revoked certificates are not read",
  service: "service files are not read: write host, port, user and database into the address",
  servicefile: "service files are not read: write host, port, user and database into the address",
  passfile: "password files are not read: write the password into the address, or set PGPASSWORD",
};

const TLS_MODES: Readonly<Record<string, TlsMode>> = {
  disable: "disable",
  false: "disable",
  "0": "disable",
  allow: "prefer",
  prefer: "prefer",
  require: "require",
  true: "require",
  "1": "require",
  "no-verify": "require",
  "verify-ca": "verify-ca",
  "verify-full": "verify-full",
};

/** Reads the parameters of a connection string. Throws InvalidOptionError, which names the parameter that is at fault. */
export function readParameters(given: Iterable<readonly [string, string]>): AddressParameters {
  const settings: Record<string, string> = {};
  const places: Partial<Record<Place, string>> = {};
  const rest = new Map<string, string>();
  for (const [written, value] of given) {
    // JDBC writes its own in another case.
    const name = written.toLowerCase();
    const place = PLACES[name];
    if (place !== undefined) places[place] = value;
    else if (name === "applicationname") settings["application_name"] = value;
    else if (SERVER_SETTINGS.has(name)) settings[name] = value;
    else if (isRead(name)) rest.set(name, value);
    else if (REFUSED[name] !== undefined) throw refused(written, REFUSED[name]);
    else if (!IGNORED.has(name) && !name.startsWith("pool_")) throw unknown(written);
  }
  const fallbackName = rest.get("fallback_application_name");
  if (fallbackName !== undefined) settings["application_name"] ??= fallbackName;
  return {
    tls: tlsOf(rest),
    isTlsDirect: rest.get("sslnegotiation") === "direct",
    settings,
    connectTimeoutMs: timeoutOf(rest),
    saysPooled: saysPooled(rest),
    saysPrimary: saysPrimary(rest),
    places,
  };
}

/** Read below. */
const READ: ReadonlySet<string> = new Set([
  "connect_timeout",
  "connecttimeout",
  "fallback_application_name",
  "logintimeout",
  "pgbouncer",
  "prepare",
  "prepared_statement_cache_size",
  "prepared_statements",
  "preparethreshold",
  "requiressl",
  "ssl",
  "sslaccept",
  "sslmode",
  "sslnegotiation",
  "sslrootcert",
  "statement_cache_capacity",
  "statement_cache_size",
  "target_session_attrs",
  "targetservertype",
]);

function isRead(name: string): boolean {
  return READ.has(name);
}

function tlsOf(rest: ReadonlyMap<string, string>): TlsMode {
  const said =
    rest.get("sslmode") ?? rest.get("ssl") ?? (rest.get("requiressl") === "1" ? "require" : "");
  const mode = said === "" ? undefined : TLS_MODES[said.toLowerCase()];
  if (said !== "" && mode === undefined) {
    throw refused("sslmode", `it must be one of ${Object.keys(TLS_MODES).join(", ")}`);
  }
  const root = rest.get("sslrootcert");
  if (root === "system") return "verify-full";
  if (root !== undefined && root !== "") {
    throw refused(
      "sslrootcert",
      "leave it out, and name the file in NODE_EXTRA_CA_CERTS with sslmode=verify-full, or pass its text to connect() as `tls: { ca }`",
    );
  }
  // Prisma's word for whether the certificate is looked at.
  if (rest.get("sslaccept") === "strict" && mode !== "disable") return "verify-full";
  return mode ?? (rest.get("sslnegotiation") === "direct" ? "require" : "disable");
}

function timeoutOf(rest: ReadonlyMap<string, string>): number | undefined {
  const text =
    rest.get("connect_timeout") ?? rest.get("connecttimeout") ?? rest.get("logintimeout");
  const seconds = Number(text ?? 0);
  if (!Number.isFinite(seconds)) throw refused("connect_timeout", "it must be a number of seconds");
  // To libpq 0 and less mean to wait for ever; here that is the default.
  return seconds > 0 ? Math.min(seconds, 600) * 1_000 : undefined;
}

function saysPooled(rest: ReadonlyMap<string, string>): boolean {
  return (
    rest.get("pgbouncer") === "true" ||
    rest.get("prepare") === "false" ||
    rest.get("prepared_statements") === "false" ||
    ["preparethreshold", "statement_cache_size", "statement_cache_capacity"]
      .concat("prepared_statement_cache_size")
      .some((name) => rest.get(name) === "0")
  );
}

/** Throws for a wish to read from a standby: the queue writes whatever it does. */
function saysPrimary(rest: ReadonlyMap<string, string>): boolean {
  const wish = rest.get("target_session_attrs") ?? rest.get("targetservertype");
  if (wish === undefined) return false;
  if (/^(any|read-write|primary|master|preferprimary)$/i.test(wish)) return true;
  throw refused(
    "target_session_attrs",
    "the queue needs the primary: write target_session_attrs=primary, or leave it out",
  );
}

function refused(name: string, advice: string): InvalidOptionError {
  return new InvalidOptionError("url", `its parameter "${name}" cannot be had here: ${advice}`);
}

function unknown(name: string): InvalidOptionError {
  return new InvalidOptionError("url", `its parameter "${name}" is not known`, {
    hint: "Leave it out. A setting of the server is written as ?options=-c%20name%3Dvalue",
  });
}
