import { InvalidOptionError } from "../core/errors.ts";
import { type AddressParameters, readParameters } from "./address-parameters.ts";

/** Where one server is. */
export interface Server {
  /** A name, an IP address, or the folder of a Unix socket, which begins with a slash. */
  readonly host: string;
  readonly port: number;
}

/** A connection string, taken apart. */
export interface Address extends Omit<AddressParameters, "places" | "saysPooled"> {
  /** Of several one is the primary; the others are its standbys. */
  readonly servers: readonly [Server, ...Server[]];
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: string | undefined;
  /** Host and port, fit for messages: never user or password. */
  readonly host: string;
  /** Whether it looks like a pooler in transaction mode. */
  readonly looksPooled: boolean;
}

/** The port where Supabase's pooler and by habit others speak transaction mode. */
const TRANSACTION_POOLER_PORT = 6543;
/** Neon's pooler, which has no port of its own. */
const POOLER_HOST = /-pooler\.[\w.-]+\.neon\.tech$/;
const DEFAULT_PORT = 5432;

const EXAMPLE = "it must look like postgres://user:password@host:5432/database";

/**
 * Reads a connection string as providers, ORMs and other drivers write it: a `postgres://` URL with one or more hosts, also with the
 * prefixes of JDBC and SQLAlchemy, with quotes around it, or libpq's `host=… dbname=…`.
 *
 * Throws InvalidOptionError, without repeating the password, for what is none, and for parameters that are unknown or cannot be had.
 */
export function parseAddress(given: string, option = "url"): Address {
  try {
    return parse(given);
  } catch (error) {
    if (!(error instanceof InvalidOptionError) || option === error.option) throw error;
    const { message, hint } = error;
    const reason = message.replace(/^.*? is invalid: /, "");
    throw new InvalidOptionError(option, reason, { hint });
  }
}

function parse(given: string): Address {
  const text = unwrapped(given);
  if (/^\w+\s*=/.test(text) && !text.includes("://")) return fromKeywords(text);
  const match = /^(?:jdbc:)?([a-z][a-z0-9.+-]*):(\/\/)?(.*)$/is.exec(text);
  const [, scheme = "", slashes, rest = ""] = match ?? [];
  if (!/^(postgres|postgresql|pgsql|psql)(\+\w+)?$/i.test(scheme)) {
    throw notAnAddress(scheme.toLowerCase());
  }
  if (slashes === undefined && !/^jdbc:/i.test(text)) throw notAnAddress("");
  return fromUrl(slashes === undefined ? `/${rest.replace(/^\/+/, "")}` : rest);
}

/** The same address with another database, as a URL. */
export function withDatabase(url: string, database: string): string {
  return toUrl({ ...parseAddress(url), database });
}

/** An address as a URL that this library, libpq and most others understand; only this library knows `pgbouncer`. */
export function toUrl(address: Address): string {
  const { user, password, servers, database, tls, settings } = address;
  const who = [user, password].filter((part) => part !== undefined).map(encodeURIComponent);
  const where = servers.map(({ host, port }) => `${encodeHost(host)}:${port}`).join(",");
  const parameters = new URLSearchParams(settings);
  if (tls !== "disable") parameters.set("sslmode", tls);
  if (address.isTlsDirect) parameters.set("sslnegotiation", "direct");
  if (address.connectTimeoutMs !== undefined) {
    parameters.set("connect_timeout", String(Math.ceil(address.connectTimeoutMs / 1_000)));
  }
  if (address.saysPrimary) parameters.set("target_session_attrs", "primary");
  if (address.looksPooled && !isPoolersPlace(servers)) parameters.set("pgbouncer", "true");
  // libpq takes a plus for what it is.
  const query = parameters.toString().replaceAll("+", "%20");
  const name = database === undefined ? "" : encodeURIComponent(database);
  return `postgres://${who.length > 0 ? `${who.join(":")}@` : ""}${where}/${name}${query && `?${query}`}`;
}

/** What people copy along with it: quotes, a line's end, the name of a variable, the command before it. */
function unwrapped(given: string): string {
  const text = String(given)
    .trim()
    .replace(/^(export\s+)?[A-Z_][A-Z0-9_]*\s*=\s*(?=["'`]?[a-z+:]+:\/\/)/, "")
    .replace(/^psql\s+/, "")
    .trim();
  const [, inner] =
    /^(?:"([^"]*)"|'([^']*)'|`([^`]*)`)$/.exec(text)?.filter((part) => part !== undefined) ?? [];
  return (inner ?? text).trim();
}

function notAnAddress(scheme: string): InvalidOptionError {
  if (scheme.startsWith("prisma")) {
    return new InvalidOptionError("url", "it leads to Prisma's proxy, which speaks no SQL", {
      hint: "Give the database's own address, which Prisma calls directUrl.",
    });
  }
  if (/^https?$/.test(scheme)) {
    return new InvalidOptionError("url", `it is a web address; ${EXAMPLE}`, {
      hint: "On Supabase the connection string stands under Connect, not under API.",
    });
  }
  return new InvalidOptionError("url", EXAMPLE);
}

/** `[user[:password]@][host[:port][,host…]][/database][?parameters]` */
function fromUrl(rest: string): Address {
  const authorityEnd = endOfAuthority(rest);
  const authority = rest.slice(0, authorityEnd);
  const [path = "", query = ""] = split(rest.slice(authorityEnd), "?");
  const at = authority.lastIndexOf("@");
  const [user, password] = at === -1 ? [] : split(authority.slice(0, at), ":").map(decoded);
  const hosts = at === -1 ? authority : authority.slice(at + 1);
  const database = decoded(path.replace(/^\//, "").replace(/\/$/, ""));
  const pairs = query
    .replace(/#.*$/, "")
    .split("&")
    .filter((pair) => pair !== "")
    .map((pair) => split(pair, "=").map(decoded))
    .map(([name = "", value = ""]) => [name, value] as const);
  return assemble({ user, password, database, servers: toServers(hosts) }, readParameters(pairs));
}

/** A password may hold what would end it: then what follows is no port, and there is an `@` further on. */
function endOfAuthority(rest: string): number {
  const first = rest.search(/[/?#]/);
  if (first === -1) return rest.length;
  const before = rest.slice(0, first);
  const isCutPassword = /^[^:@[\]]+:(?!\d*$)[^@]*$/.test(before) && rest.includes("@", first);
  if (!isCutPassword) return first;
  const end = rest.slice(rest.lastIndexOf("@")).search(/[/?]/);
  return end === -1 ? rest.length : rest.lastIndexOf("@") + end;
}

/** libpq's `host=localhost dbname='my db'`. */
function fromKeywords(text: string): Address {
  if (/;\s*\w+\s*=/.test(text)) throw new InvalidOptionError("url", EXAMPLE);
  const pairs = [...text.matchAll(/(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\]|\\.)*))/g)].map(
    ([, name = "", quoted, plain = ""]) =>
      [name, (quoted ?? plain).replace(/\\(.)/g, "$1")] as const,
  );
  return assemble({}, readParameters(pairs));
}

interface Written {
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  readonly database?: string | undefined;
  readonly servers?: readonly Server[];
}

function assemble(
  { user, password, database, servers = [] }: Written,
  { places, saysPooled, ...parameters }: AddressParameters,
): Address {
  const secret = password || places.password;
  if (secret !== undefined && /^(\[[^\]]*password[^\]]*\]|<[^>]*password[^>]*>)$/i.test(secret)) {
    throw new InvalidOptionError("url", "it still has the placeholder for the password", {
      hint: "Put the database's password there; @ : / ? # % are written as %40 %3A %2F %3F %23 %25.",
    });
  }
  const named = toServers(places.host ?? "", places.port ?? "");
  const [first, ...others] = servers.length > 0 ? withPorts(servers, places.port) : named;
  const all: [Server, ...Server[]] = [
    first ?? { host: "localhost", port: DEFAULT_PORT },
    ...others,
  ];
  return {
    ...parameters,
    servers: all,
    user: user || places.user || undefined,
    password: secret || undefined,
    database: database || places.database || undefined,
    host: all.map(placeOf).join(","),
    looksPooled: saysPooled || isPoolersPlace(all),
    saysPrimary: parameters.saysPrimary || all.length > 1,
  };
}

function isPoolersPlace(servers: readonly Server[]): boolean {
  return servers.some(
    ({ host, port }) => port === TRANSACTION_POOLER_PORT || POOLER_HOST.test(host),
  );
}

/** Hosts with their ports, separated by commas; ports may also come as a list of their own. None for the empty text. */
function toServers(hosts: string, ports = ""): Server[] {
  if (hosts === "" && ports === "") return [];
  const givenPorts = ports === "" ? [] : ports.split(",");
  return hosts.split(",").map((written, index) => {
    const [host, own] = hostAndPort(written);
    const listed = givenPorts[index] ?? (givenPorts.length === 1 ? givenPorts[0] : "");
    return { host: host || "localhost", port: toPort(own || listed || "") };
  });
}

function hostAndPort(written: string): [host: string, port?: string | undefined] {
  // A folder as a parameter may hold colons; before the question mark it is escaped.
  if (written.startsWith("/") || /^[0-9a-f]*:[0-9a-f:.]*:[0-9a-f:.]*$/i.test(written)) {
    return [written];
  }
  const match = /^(?:\[([^\]]+)\]|([^:]*))(?::(.*))?$/.exec(written);
  if (!match) throw new InvalidOptionError("url", EXAMPLE);
  const [, bracketed, name = "", port] = match;
  return [bracketed ?? decoded(name), port];
}

/** Host and port, fit for messages. */
export function placeOf({ host, port }: Server): string {
  return host.includes(":") && !host.startsWith("/") ? `[${host}]:${port}` : `${host}:${port}`;
}

function withPorts(servers: readonly Server[], ports: string | undefined): readonly Server[] {
  return ports === undefined || servers.length > 1
    ? servers
    : servers.map(({ host, port }) => ({
        host,
        port: port === DEFAULT_PORT ? toPort(ports) : port,
      }));
}

function toPort(text: string): number {
  if (text === "") return DEFAULT_PORT;
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port;
  throw new InvalidOptionError("url", "its port must be a number from 1 to 65535", {
    hint: "If it is part of the password: @ : / ? # % are written as %40 %3A %2F %3F %23 %25 there.",
  });
}

function encodeHost(host: string): string {
  return host.includes(":") && !host.startsWith("/") ? `[${host}]` : encodeURIComponent(host);
}

/** A percent sign that begins no escape stands for itself. */
function decoded(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (escaped) => {
    try {
      return decodeURIComponent(escaped);
    } catch {
      return escaped;
    }
  });
}

function split(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at === -1 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}
