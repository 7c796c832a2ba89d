import { InvalidOptionError } from "../core/errors.ts";

/** A connection string, taken apart as far as we care. */
export interface Address {
  /** The string without the parameters that are meant for other tools. */
  readonly url: string;
  /** Host and port, fit for messages: never user or password. */
  readonly host: string;
  /** Whether it looks like a pooler in transaction mode. */
  readonly looksPooled: boolean;
}

/** The port where Supabase's pooler and by habit others speak transaction mode. */
const TRANSACTION_POOLER_PORT = "6543";

/** Reads a `postgres://` URL. Throws InvalidOptionError, without repeating the password, when it is none. */
export function parseAddress(url: string): Address {
  const parsed = tryParse(url);
  if (!parsed || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new InvalidOptionError(
      "url",
      "it must look like postgres://user:password@host:5432/database",
    );
  }
  // Prisma's habit. Postgres would refuse it as an unknown setting.
  const pgbouncer = parsed.searchParams.get("pgbouncer");
  parsed.searchParams.delete("pgbouncer");
  const host = parsed.searchParams.get("host") ?? parsed.hostname;
  return {
    url: pgbouncer === null ? url : parsed.toString(),
    host: `${host || "localhost"}:${parsed.port || "5432"}`,
    looksPooled: pgbouncer === "true" || parsed.port === TRANSACTION_POOLER_PORT,
  };
}

function tryParse(url: string): URL | undefined {
  try {
    return new URL(url);
  } catch {
    return undefined;
  }
}
