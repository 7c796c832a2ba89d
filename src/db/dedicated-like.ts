import type { Address, Server } from "./address.ts";
import type { ConnectionSettings } from "./connection.ts";
import { openDatabase } from "./database.ts";
import type { PostgresJsClient } from "./postgres-js-statement.ts";
import type { Sql } from "./sql.ts";

const CONNECT_MS = 10_000;

/** A connection of our own like those of a postgres.js client. */
export function dedicatedLike(options: PostgresJsClient["options"]): Sql {
  const settings: ConnectionSettings = {
    address: addressOf(options),
    driver: {},
    inherited: options as unknown as Readonly<Record<string, unknown>>,
    tls: {},
    connectTimeoutMs: CONNECT_MS,
    // Nobody knows; then nothing is asked that needs to know.
    isPooled: true,
  };
  const database = openDatabase({ settings, max: 1, maxTransactions: 1 });
  const one = database.dedicated();
  return {
    ...one,
    async close() {
      database.close();
    },
  };
}

function addressOf({ host, port, path }: PostgresJsClient["options"]): Address {
  const socket = typeof path === "string" ? path.replace(/\/\.s\.PGSQL\.\d+$/, "") : undefined;
  const [first, ...others] = host.map(
    (name, index): Server => ({ host: socket ?? name, port: port[index] ?? 5432 }),
  );
  return {
    servers: [first ?? { host: "localhost", port: 5432 }, ...others],
    user: undefined,
    password: undefined,
    database: undefined,
    host: host.map((name, index) => `${name}:${port[index] ?? 5432}`).join(","),
    tls: "disable",
    isTlsDirect: false,
    settings: {},
    connectTimeoutMs: undefined,
    looksPooled: false,
    // Of several hosts only one takes writes.
    saysPrimary: others.length > 0,
  };
}
